"""The command line: ``kafkasim run``, ``exec``, ``check``, ``explore``, ``replay``, ``shrink``, ``compare`` and ``conform``.

Rule 1:   exit status 0 only where everything promised was kept; 1 where a promise broke, 2 for a mistake in what was asked,
          130 after Ctrl-C.
Rule 2:   results go to stdout, progress and problems to stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from kafkasim import __version__
from kafkasim.errors import ConfigurationError

USAGE_ERROR = 2

app = typer.Typer(
    name="kafkasim",
    help="A deterministic, replicated Kafka inside one process: try out designs and programs in virtual time.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command("run")
def _run(
    design: Annotated[str, typer.Argument(help="The design file (TOML).", metavar="DESIGN.toml")],
    seed: Annotated[int | None, typer.Option(help="Another seed than the design's.")] = None,
    duration: Annotated[
        str | None, typer.Option("--for", help='Another duration than the design\'s: "90s", "10m".')
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    progress: Annotated[bool | None, typer.Option(help="Show progress on stderr; by default on a terminal.")] = None,
    report: Annotated[
        str | None, typer.Option(help="Write a page of the run: one HTML file (extra viz).", metavar="OUT.html")
    ] = None,
    trace: Annotated[
        str | None, typer.Option(help="Write a trace of the run for ui.perfetto.dev.", metavar="OUT.json")
    ] = None,
) -> None:
    """Run a fan-out design and say whether it keeps what it promises."""
    from kafkasim.cli.run import run_command

    raise typer.Exit(run_command(design, seed, duration, as_json, progress, report, trace))


@app.command("exec", context_settings={"allow_interspersed_args": False})
def _exec(
    command: Annotated[
        list[str], typer.Argument(help="The program and its arguments.", metavar="-- SCRIPT.py ARGS...")
    ],
    cluster: Annotated[list[str], typer.Option(help="brokers=3 (default), controllers=N, racks=a/b/c.")] = [],  # noqa: B006
    topic: Annotated[list[str], typer.Option(help="A topic to create first: name:partitions[:replicas].")] = [],  # noqa: B006
    also: Annotated[
        list[str], typer.Option(help='Another program to run beside it, with its arguments: "consumer.py --group a".')
    ] = [],  # noqa: B006
    duration: Annotated[str | None, typer.Option("--for", help='Stop the programs after so long: "60s".')] = None,
    seed: Annotated[int, typer.Option(help="Decides everything that is left to chance.")] = 0,
) -> None:
    """Run an unmodified confluent-kafka program on a simulated cluster, in virtual time.

    Every bootstrap.servers reaches the cluster. The command ends when the program does, with its exit status; programs beside it are
    stopped then. All programs share one process, and so the modules that they import.
    """
    from kafkasim.cli.execute import exec_command

    raise typer.Exit(exec_command(command, cluster, topic, also, duration, seed))


@app.command("check")
def _check(
    file: Annotated[str, typer.Argument(help="A history, as save_history writes it.", metavar="FILE.jsonl")],
    promise: Annotated[
        list[str],
        typer.Option(
            help="GROUP:PROMISE,PROMISE@TOPIC,TOPIC, as billing:at_least_once,drained@orders; may be repeated."
        ),
    ] = [],  # noqa: B006
    compacted: Annotated[list[str], typer.Option(help="A topic that is compacted; may be repeated.")] = [],  # noqa: B006
    replication_factor: Annotated[int, typer.Option(help="Copies of each partition.")] = 3,
    min_insync: Annotated[int, typer.Option("--min-insync-replicas", help="As the topics have it.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Hold a recorded history, of a simulated cluster or a real one, against what Kafka and its users promise."""
    from kafkasim.cli.check import check_command

    raise typer.Exit(check_command(file, promise, compacted, replication_factor, min_insync, as_json))


@app.command("conform")
def _conform(
    suite: Annotated[list[str], typer.Argument(help="What pytest is to run.")] = ["tests/conformance"],  # noqa: B006
    real: Annotated[
        str, typer.Option(metavar="BOOTSTRAP|local", help="A running cluster; or start brokers on this machine.")
    ] = "local",
    divergences: Annotated[
        str, typer.Option(help="The known divergences, each with its reason.", metavar="FILE.toml")
    ] = "docs/divergences.toml",
    report: Annotated[str, typer.Option(help="Folder for conformance.md and conformance.json.")] = ".kafka/report",
    document: Annotated[
        str | None,
        typer.Option(help="Write the page that the documentation cites, after a whole run.", metavar="FILE.md"),
    ] = None,
    select: Annotated[str | None, typer.Option("-k", help="Only tests that match, as pytest's -k.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that each side may take.")] = 1500.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Run one test suite on real Kafka and on the simulator, and report every difference."""
    from kafkasim.cli.conform import conform_command

    raise typer.Exit(conform_command(suite, real, divergences, report, document, select, timeout, as_json))


@app.command("explore")
def _explore(
    target: Annotated[
        str,
        typer.Argument(
            help="A design file, a scenario function (module:function), or a @kafkasim.test (tests/test_x.py::test_name).",
            metavar="TARGET",
        ),
    ],
    seed: Annotated[int, typer.Option(help="Of the campaign: every trial follows from it.")] = 0,
    seeds: Annotated[
        int | None, typer.Option(help="Stop after so many trials; 200 where no other budget is given.")
    ] = None,
    time: Annotated[str | None, typer.Option(help='Stop after so long: "60s", "10m".')] = None,
    failures: Annotated[int | None, typer.Option(help="Stop when so many different failures were found.")] = None,
    jobs: Annotated[int, typer.Option(help="Processes on this machine.")] = 1,
    scheduler: Annotated[
        str | None, typer.Option(metavar="tcp://HOST:PORT", help="Run on the workers of a Dask cluster.")
    ] = None,
    results: Annotated[
        str | None,
        typer.Option(metavar="FILE.jsonl", help="Add outcomes to this file; a later campaign goes on from it."),
    ] = None,
    duration: Annotated[str | None, typer.Option("--for", help="A design's duration, in place of its own.")] = None,
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Where replay files go.")] = ".kafkasim/failures",
    shrink: Annotated[bool, typer.Option("--shrink", help="Shrink each failure, half a minute at most.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    progress: Annotated[bool | None, typer.Option(help="Show progress on stderr; by default on a terminal.")] = None,
) -> None:
    """Run a scenario under many seeds and fault plans, and say what broke, how often, and what was never seen."""
    from kafkasim.cli.explore import explore_command

    raise typer.Exit(
        explore_command(
            target, seed, seeds, time, failures, jobs, scheduler, results, duration, out, shrink, as_json, progress
        )
    )


@app.command("replay")
def _replay(
    file: Annotated[str, typer.Argument(help="A replay file of kafkasim explore or kafkasim shrink.", metavar="FILE")],
    loose: Annotated[
        bool, typer.Option("--loose", help="The same seed and plan under the code as it is now, whatever it draws.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    report: Annotated[
        str | None, typer.Option(help="Write a page of the run: one HTML file (extra viz).", metavar="OUT.html")
    ] = None,
    trace: Annotated[
        str | None, typer.Option(help="Write a trace of the run for ui.perfetto.dev.", metavar="OUT.json")
    ] = None,
    sequence: Annotated[
        str | None, typer.Option(help="Write its last requests as a Mermaid diagram.", metavar="OUT.md")
    ] = None,
    history: Annotated[
        str | None, typer.Option(help="Write its whole history, a line of JSON an event.", metavar="OUT.jsonl")
    ] = None,
) -> None:
    """Run a recorded failure again, choice by choice, and show it on one screen."""
    from kafkasim.cli.look import Pictures
    from kafkasim.cli.replay import replay_command

    pictures = Pictures(report, trace, sequence, history)
    pictures.check()
    status = replay_command(file, loose, as_json)
    if pictures.wanted:
        pictures.draw(file)
    raise typer.Exit(status)


@app.command("why")
def _why(
    file: Annotated[str, typer.Argument(help="A replay file.", metavar="FILE")],
    what: Annotated[
        list[str],
        typer.Argument(help="record=call-123, group=billing, topic=calls partition=0, at=12.5", metavar="WHAT=..."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Say what became of a record, what holds a group up, or why a partition is as it is, in a recorded run."""
    from kafkasim.cli.look import why_command

    raise typer.Exit(why_command(file, what, as_json))


@app.command("diff")
def _diff(
    file: Annotated[str, typer.Argument(help="A replay file.", metavar="FILE")],
    without: Annotated[list[str], typer.Option(help="Take a protection away: elr, epoch_truncation, ...")] = [],  # noqa: B006
    with_: Annotated[list[str], typer.Option("--with", help="Put a protection back that the run is without.")] = [],  # noqa: B006
    settings: Annotated[list[str], typer.Option("--set", help="Another broker config: NAME=VALUE.")] = [],  # noqa: B006
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Run a recorded plan twice, once with something changed: the first event that differs, and how each ended.

    The exit status is 1 if the change decides whether a promise is kept.
    """
    from kafkasim.cli.look import diff_command

    flips = {**dict.fromkeys(without, False), **dict.fromkeys(with_, True)}
    raise typer.Exit(diff_command(file, flips, settings, as_json))


@app.command("shrink")
def _shrink(
    file: Annotated[str, typer.Argument(help="A replay file.", metavar="FILE")],
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Where the shrunk run goes; by default beside the first.")
    ] = None,
    time: Annotated[str | None, typer.Option(help='How long it may take: "60s"; 30 seconds by default.')] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    progress: Annotated[bool | None, typer.Option(help="Show progress on stderr; by default on a terminal.")] = None,
) -> None:
    """Find the smallest run that fails for the same cause, and the single changes that let it pass."""
    from kafkasim.cli.replay import shrink_command

    raise typer.Exit(shrink_command(file, out, time, as_json, progress))


compare = typer.Typer(
    name="compare", help="Run one scenario under several alternatives, and compare.", no_args_is_help=True
)
app.add_typer(compare)


@compare.callback()
def _compare() -> None:
    """Keeps ``rebalance`` a word of its own while it is the only comparison."""


@compare.command("rebalance")
def _compare_rebalance(
    event: Annotated[
        list[str],
        typer.Option(help="join@10, leave@40, crash@70:2, roll@60:10, grow@80:48; seconds from the settled group."),
    ] = ["join@10", "leave@40", "crash@70"],  # noqa: B006
    protocol: Annotated[
        list[str], typer.Option(help="eager, cooperative, static, consumer; by default all of them.")
    ] = [],  # noqa: B006
    members: Annotated[int, typer.Option(help="How many start, all at once.")] = 6,
    partitions: Annotated[int, typer.Option(help="Of the topic that they read.")] = 24,
    slow: Annotated[list[str], typer.Option(help="0:0.3/4.3: member 0 polls only 0.3 s of every 4.3 s.")] = [],  # noqa: B006
    config: Annotated[list[str], typer.Option(help="A client property of every member: session.timeout.ms=6000.")] = [],  # noqa: B006
    duration: Annotated[str | None, typer.Option("--for", help='From the settled group on: "90s".')] = None,
    seed: Annotated[int, typer.Option(help="Decides everything that is left to chance.")] = 0,
    backend: Annotated[
        str, typer.Option(help="sim; local starts real brokers; kafka://host:9092 is a running cluster.")
    ] = "sim",
    html: Annotated[str | None, typer.Option(metavar="FILE", help="Write the picture as a page of its own.")] = None,
    png: Annotated[str | None, typer.Option(metavar="FILE", help="Write the picture as PNG (needs kaleido).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare what rebalance protocols cost: pauses, moved partitions, duplicates, lag."""
    from kafkasim.cli.compare import compare_rebalance

    raise typer.Exit(
        compare_rebalance(
            event, protocol, members, partitions, slow, config, duration, seed, backend, html, png, as_json
        )
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point; ends with SystemExit."""
    try:
        app(args=None if arguments is None else list(arguments), prog_name="kafkasim")
    except ConfigurationError as problem:
        print(f"kafkasim: {problem}", file=sys.stderr)
        raise SystemExit(USAGE_ERROR) from None


if __name__ == "__main__":
    main()
