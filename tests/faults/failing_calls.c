/* Lets the nth call that changes the disk fail; loaded into a process by LD_PRELOAD.
 *
 * FAIL_AT is the number of the call, 1 for the first, FAIL_ERRNO what it fails with, and every call
 * after it fails as well where FAIL_ON is set. Only files whose path begins with FAIL_UNDER count.
 * FAIL_COUNT names a file that gets the number of calls made when the process ends. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static long calls;

static int is_ours(const char *path) {
    const char *under = getenv("FAIL_UNDER");
    return under && path && strncmp(path, under, strlen(under)) == 0;
}

static int is_ours_open(int handle) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_ours(path);
}

static int fails(int ours) {
    const char *at = getenv("FAIL_AT"), *number = getenv("FAIL_ERRNO");
    if (!ours || !at || !number) return 0;
    long call = __sync_add_and_fetch(&calls, 1), first = atol(at);
    if (call == first || (getenv("FAIL_ON") && first > 0 && call > first)) {
        errno = atoi(number);
        return 1;
    }
    return 0;
}

__attribute__((destructor)) static void report(void) {
    const char *path = getenv("FAIL_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (file) {
        fprintf(file, "%ld", calls);
        fclose(file);
    }
}

#define REAL(name, type) \
    static __typeof__(type) *real; \
    if (!real) real = (__typeof__(type) *)dlsym(RTLD_NEXT, name)

int fsync(int handle) {
    REAL("fsync", int(int));
    return fails(is_ours_open(handle)) ? -1 : real(handle);
}

int fdatasync(int handle) {
    REAL("fdatasync", int(int));
    return fails(is_ours_open(handle)) ? -1 : real(handle);
}

int rename(const char *from, const char *to) {
    REAL("rename", int(const char *, const char *));
    return fails(is_ours(to)) ? -1 : real(from, to);
}

ssize_t write(int handle, const void *data, size_t size) {
    REAL("write", ssize_t(int, const void *, size_t));
    return fails(is_ours_open(handle)) ? -1 : real(handle, data, size);
}

ssize_t pwrite64(int handle, const void *data, size_t size, off64_t offset) {
    REAL("pwrite64", ssize_t(int, const void *, size_t, off64_t));
    return fails(is_ours_open(handle)) ? -1 : real(handle, data, size, offset);
}

int ftruncate64(int handle, off64_t size) {
    REAL("ftruncate64", int(int, off64_t));
    return fails(is_ours_open(handle)) ? -1 : real(handle, size);
}
