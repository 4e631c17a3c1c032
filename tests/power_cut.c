/* Records what a process does to the files below $POWER_CUT_DIR into $POWER_CUT_LOG, so that a test
   can work out what a disk may hold after a power cut. Preloaded: LD_PRELOAD. Each record is a line,
   "W offset length path", and the bytes of a write after it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int journal = -1;

static const char *watched(const char *path) {
    const char *folder = getenv("POWER_CUT_DIR");
    size_t length = folder ? strlen(folder) : 0;
    if (!folder || strncmp(path, folder, length) != 0) return NULL;
    if (path[length] == 0) return ".";
    if (path[length] != '/') return NULL;
    length = strlen(path) > 4 ? strlen(path) - 4 : 0;
    if (strcmp(path + length, "-shm") == 0) return NULL; /* is made anew at every start */
    return path + strlen(folder) + 1;
}

static const char *path_of(int fd, char *buffer, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, buffer, size - 1);
    if (length < 0) return NULL;
    buffer[length] = 0;
    if (strstr(buffer, " (deleted)")) return NULL;
    return watched(buffer);
}

static void note(char op, long long offset, long long length, const char *path, const void *data) {
    if (journal < 0)
        journal = syscall(SYS_openat, AT_FDCWD, getenv("POWER_CUT_LOG"),
                          O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    char line[4200];
    int size = snprintf(line, sizeof line, "%c %lld %lld %s\n", op, offset, length, path);
    syscall(SYS_write, journal, line, size);
    if (data) syscall(SYS_write, journal, data, (size_t)length);
}

static int opened(int result, int existed, const char *path) {
    const char *name = watched(path);
    if (result >= 0 && name && !existed) note('O', 0, 0, name, NULL);
    return result;
}

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...) {                                                   \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;                  \
        va_end(rest);                                                                              \
        int existed = faccessat(AT_FDCWD, path, F_OK, 0) == 0;                                     \
        int result = REAL(name)(path, flags, mode);                                                \
        if (result >= 0 && existed && flags & O_TRUNC && watched(path))                            \
            note('T', 0, 0, watched(path), NULL);                                                  \
        return opened(result, existed, path);                                                      \
    }
OPEN(open)
OPEN(open64)

ssize_t write(int fd, const void *data, size_t size) {
    char buffer[4096];
    const char *path = path_of(fd, buffer, sizeof buffer);
    long long offset = path ? lseek(fd, 0, SEEK_CUR) : 0;
    ssize_t written = REAL(write)(fd, data, size);
    if (path && written > 0) note('W', offset, written, path, data);
    return written;
}

#define PWRITE(name, type)                                                                         \
    ssize_t name(int fd, const void *data, size_t size, type offset) {                             \
        char buffer[4096];                                                                         \
        ssize_t written = REAL(name)(fd, data, size, offset);                                      \
        const char *path = path_of(fd, buffer, sizeof buffer);                                     \
        if (path && written > 0) note('W', offset, written, path, data);                           \
        return written;                                                                            \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define TRUNCATE(name, type)                                                                       \
    int name(int fd, type length) {                                                                \
        char buffer[4096];                                                                         \
        int result = REAL(name)(fd, length);                                                       \
        const char *path = path_of(fd, buffer, sizeof buffer);                                     \
        if (path && result == 0) note('T', length, 0, path, NULL);                                 \
        return result;                                                                             \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define SYNC(name)                                                                                 \
    int name(int fd) {                                                                             \
        char buffer[4096];                                                                         \
        int result = REAL(name)(fd);                                                               \
        const char *path = path_of(fd, buffer, sizeof buffer);                                     \
        struct stat status;                                                                        \
        if (path && result == 0 && fstat(fd, &status) == 0)                                        \
            note(S_ISDIR(status.st_mode) ? 'D' : 'S', 0, 0, path, NULL);                           \
        return result;                                                                             \
    }
SYNC(fsync)
SYNC(fdatasync)

int unlink(const char *path) {
    int result = REAL(unlink)(path);
    if (result == 0 && watched(path)) note('U', 0, 0, watched(path), NULL);
    return result;
}

int rename(const char *from, const char *to) {
    int result = REAL(rename)(from, to);
    if (result == 0 && watched(from) && watched(to)) {
        char both[4096];
        snprintf(both, sizeof both, "%s\t%s", watched(from), watched(to));
        note('R', 0, 0, both, NULL);
    }
    return result;
}
