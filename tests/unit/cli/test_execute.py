"""``kafkasim exec``: a program's arguments, streams, status, and company."""

import io
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from kafkasim.cli import main
from kafkasim.cli.execute import parse_cluster, parse_topic
from kafkasim.errors import ConfigurationError


def status_of(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["exec", *arguments])
    return int(caught.value.code or 0)


def script(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return str(path)


def test_arguments_streams_and_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program sees its own arguments and stdin, is __main__, and its exit status is the command's."""
    path = script(
        tmp_path,
        "program.py",
        """
        import sys
        import helper
        if __name__ == "__main__":
            print(sys.argv[1:], sys.stdin.read(), helper.VALUE, sys.modules["__main__"].__file__ == __file__)
            sys.exit(7)
        """,
    )
    (tmp_path / "helper.py").write_text("VALUE = 42\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("typed"))
    before = list(sys.argv), sys.modules["__main__"], list(sys.path), signal.getsignal(signal.SIGINT), signal.signal
    assert status_of("--", path, "--flag", "x") == 7
    assert capsys.readouterr().out == "['--flag', 'x'] typed 42 True\n"
    assert before == (
        list(sys.argv),
        sys.modules["__main__"],
        list(sys.path),
        signal.getsignal(signal.SIGINT),
        signal.signal,
    )
    sys.modules.pop("helper")


@pytest.mark.parametrize(
    ("end", "status"), [("", 0), ("sys.exit()", 0), ("sys.exit('told')", 1), ("raise SystemExit(256 + 3)", 3)]
)
def test_exit_statuses(tmp_path: Path, end: str, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    """SystemExit means what it means to the interpreter."""
    assert status_of(script(tmp_path, "program.py", f"import sys\n{end}\n")) == status
    assert ("told" in capsys.readouterr().err) == (status == 1)


def test_a_traceback_shows_the_program_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Frames of the simulated client are left out, as the real one's are in C; so in a chained cause."""
    path = script(
        tmp_path,
        "program.py",
        """
        from confluent_kafka import Producer

        def fail():
            Producer({"bootstrap.servers": "x", "no.such": 1})

        try:
            fail()
        except Exception as problem:
            raise RuntimeError("no producer") from problem
        """,
    )
    assert status_of(path) == 1
    err = capsys.readouterr().err
    assert "No such configuration property" in err
    assert err.rstrip().endswith("RuntimeError: no producer")
    assert os.sep + "kafkasim" + os.sep not in err.replace(str(tmp_path), "")
    assert err.count("in fail") == 1


def test_a_syntax_error_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A program that cannot be compiled ends with 1 and its SyntaxError."""
    assert status_of(script(tmp_path, "program.py", "def (:\n")) == 1
    assert "SyntaxError" in capsys.readouterr().err


def test_programs_side_by_side_keep_their_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs that block in turn see their own sys.argv before and after, in one virtual time; the others end with the first."""
    path = script(
        tmp_path,
        "program.py",
        """
        import sys, time
        try:
            for _ in range(int(sys.argv[2])):
                time.sleep(1)
                print(sys.argv[1], round(time.time()) % 60)
        finally:
            print(sys.argv[1], "ends")
        """,
    )
    assert status_of("--also", f"{path} other 100", "--", path, "main", "2") == 0
    lines = capsys.readouterr().out.split("\n")
    assert lines[0].split()[1] == lines[1].split()[1]
    assert [line.split()[0] for line in lines[:3]] == ["main", "other", "main"]
    assert {"main ends", "other ends"} < set(lines)


def test_for_stops_by_handler_or_exit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--for stops a program as SIGTERM does: its handler is called, or SystemExit is raised where it blocks."""
    with_handler = script(
        tmp_path,
        "handles.py",
        """
        import signal, time
        running = True
        def stop(number, frame):
            global running
            running = False
        signal.signal(signal.SIGTERM, stop)
        while running:
            time.sleep(0.5)
        print("in order")
        """,
    )
    without = script(
        tmp_path,
        "without.py",
        """
        import time
        try:
            while True:
                time.sleep(0.5)
        except Exception:
            print("never")
        finally:
            print("finally")
        """,
    )
    assert status_of("--for", "5s", "--also", without, with_handler) == 0
    assert sorted(capsys.readouterr().out.split("\n")) == ["", "finally", "in order"]


def test_produce_and_consume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Topics are created first; any address reaches the cluster; a consumer beside gets what is produced."""
    producer = script(
        tmp_path,
        "producer.py",
        """
        import time
        from confluent_kafka import Producer
        producer = Producer({"bootstrap.servers": "kafka.example:9092"})
        print(len(producer.list_topics("calls").topics["calls"].partitions), len(producer.list_topics().brokers))
        for number in range(5):
            producer.produce("calls", f"value {number}", partition=number)
        producer.flush()
        time.sleep(10)
        """,
    )
    consumer = script(
        tmp_path,
        "consumer.py",
        """
        from confluent_kafka import Consumer
        consumer = Consumer({"bootstrap.servers": "b:1", "group.id": "g", "auto.offset.reset": "earliest"})
        consumer.subscribe(["calls"])
        got = []
        while len(got) < 5:
            message = consumer.poll(1.0)
            if message is not None:
                got.append(message.value().decode())
        print(sorted(got))
        consumer.close()
        """,
    )
    arguments = ["--cluster", "brokers=2", "--topic", "calls:5:2", "--also", consumer, "--", producer]
    assert status_of(*arguments) == 0
    first, second = capsys.readouterr().out.strip().split("\n")
    assert first == "5 2"
    assert second == str([f"value {number}" for number in range(5)])


def test_arguments_of_cluster_and_topic() -> None:
    """Options are read, and wrong ones told with what is expected."""
    assert parse_cluster(["brokers=2,racks=a/b", "controllers=1"]) == {
        "brokers": 2,
        "racks": ["a", "b"],
        "controllers": 1,
    }
    assert parse_topic("calls:6") == ("calls", 6, None)
    assert parse_topic("calls:6:2") == ("calls", 6, 2)
    for wrong in ("broker=3", "brokers=three", "brokers"):
        with pytest.raises(ConfigurationError, match="expected brokers=N"):
            parse_cluster([wrong])
    for wrong in (":3", "a:x", "a:0", "a:1:1:1"):
        with pytest.raises(ConfigurationError, match="expected name:partitions"):
            parse_topic(wrong)


def test_no_native_client_is_loaded(tmp_path: Path) -> None:
    """In a fresh process the program runs by the real command line, and librdkafka is not mapped into it."""
    path = script(
        tmp_path,
        "program.py",
        """
        import sys
        from confluent_kafka import Producer
        from confluent_kafka.admin import AdminClient
        producer = Producer({"bootstrap.servers": "x"})
        for line in sys.stdin:
            producer.produce("calls", line.strip())
        print(producer.flush(10), "librdkafka" in open("/proc/self/maps").read())
        sys.exit(5)
        """,
    )
    command = [sys.executable, "-m", "kafkasim", "exec", "--topic", "calls:3", "--", path]
    done = subprocess.run(command, input="a\nb\n", capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("0 False\n", 5), done.stderr


def test_ctrl_c_reaches_the_program(tmp_path: Path) -> None:
    """The program gets KeyboardInterrupt where it blocks, ends in its own way, and the status is that of an interrupted program."""
    path = script(
        tmp_path,
        "program.py",
        """
        import time
        try:
            print("begins", flush=True)
            while True:
                time.sleep(0.1)
        except KeyboardInterrupt:
            print("aborted")
        """,
    )
    command = [sys.executable, "-m", "kafkasim", "exec", "--", path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == ("aborted\n", "", 130)
