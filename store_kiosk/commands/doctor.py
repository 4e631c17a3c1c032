"""The command that looks for what is wrong."""

from pathlib import Path

import click

from c2rec.store_kiosk.commands.options import JSON, echo_json
from c2rec.store_kiosk.render import SCHEMA, plain


@click.command()
@JSON
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Look for what is wrong with this kiosk, and tell what to do about it.

    Reads every byte of the installed releases, and changes nothing. Exits with 0 where all is well,
    1 where something may become a problem, 2 where something is broken.
    """
    from c2rec.store_kiosk.doctor import diagnose

    home: Path = ctx.obj
    findings = diagnose(home)
    verdicts = {finding.verdict for finding in findings}
    if as_json:
        worst = next((v for v in ("failure", "warning") if v in verdicts), "ok")
        checks = [
            {"check": f.check, "verdict": f.verdict, "text": f.text, "fix": f.fix} for f in findings
        ]
        echo_json({"schema": SCHEMA, "home": str(home), "verdict": worst, "checks": checks})
    else:
        for finding in findings:
            fix = f"\n{'':<21}fix: {finding.fix}" if finding.fix else ""
            line = f"{finding.verdict:<8} {finding.check:<11} {finding.text}"
            click.echo(plain(line) + (f"\n{plain(fix[1:])}" if fix else ""))
    ctx.exit(2 if "failure" in verdicts else 1 if "warning" in verdicts else 0)
