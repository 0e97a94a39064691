"""Events a second: a bare heapq loop, the kernel, its events with fingerprint and history, the network, tasks, a whole cluster.

Every line is held against the bare loop of the same run, which pops a callback and pushes the next. The cluster writes its history
and its fingerprint meanwhile, and is checked at the end (the check is timed by itself).

    python -m benchmarks.kernel [--events 300000] [--profile]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any

from benchmarks.measure import machine

CHAINS = 64


def bare_loop(events: int) -> tuple[int, float]:
    """What any event loop in Python costs at the least: a heap, a tie-breaker, a call."""
    queue: list[tuple[int, int, Callable[..., None], tuple[int]]] = []
    ids = count()
    done = 0

    def step(chain: int) -> None:
        nonlocal done
        done += 1
        if done < events:
            heappush(queue, (now + 10 + chain, next(ids), step, (chain,)))

    for chain in range(CHAINS):
        heappush(queue, (chain, next(ids), step, (chain,)))
    started = time.perf_counter()
    while queue:
        now, _, function, arguments = heappop(queue)
        function(*arguments)
    return done, time.perf_counter() - started


def kernel_loop(events: int) -> tuple[int, float]:
    from kafkasim.sim.kernel import Kernel

    kernel = Kernel()

    def step(chain: int) -> None:
        if kernel.events < events:
            kernel.post_after(10 + chain, step, (chain,))

    for chain in range(CHAINS):
        kernel.post_at(chain, step, (chain,))
    started = time.perf_counter()
    kernel.run_until_us(1 << 60)
    return kernel.events, time.perf_counter() - started


def noted_loop(events: int) -> tuple[int, float]:
    """As ``kernel_loop``, and every event is mixed into the fingerprint; every tenth goes into the history."""
    from kafkasim.core.model.history import Happened
    from kafkasim.sim.kernel import Kernel
    from kafkasim.sim.recorder import History
    from kafkasim.sim.trace import Trace

    kernel, trace, history = Kernel(), Trace(), History()

    def step(chain: int) -> None:
        now_us = kernel.now_us
        trace.mix(now_us, chain, 1, 2)
        if kernel.events % 10 == 0:
            history.record(Happened(now_us, chain, "step", chain, ()))
        if kernel.events < events:
            kernel.post_after(10 + chain, step, (chain,))

    for chain in range(CHAINS):
        kernel.post_at(chain, step, (chain,))
    started = time.perf_counter()
    kernel.run_until_us(1 << 60)
    return kernel.events, time.perf_counter() - started


class _Ball:
    """Two nodes of the network that answer each other at once: what a message costs, without any Kafka."""

    def __init__(self, network: Any, node_id: int, throws: int) -> None:
        self.network, self.node_id, self.throws = network, node_id, throws

    def throw(self) -> None:
        self.throws -= 1
        self.network.send(self.node_id, self.node_id + 1, 0, self.throws, "ping", 100)

    def on_connection(self, connection_id: int, peer: int) -> None:
        pass

    def on_request(self, connection_id: int, correlation_id: int, request: Any) -> None:
        self.network.reply(connection_id, correlation_id, "pong", 100)

    def on_closed(self, connection_id: int) -> None:
        pass

    def on_disconnect(self, peer: int, channel: Any, reason: str) -> None:
        raise AssertionError(reason)

    def on_response(self, peer: int, channel: Any, correlation_id: int, response: Any) -> None:
        if self.throws > 0:
            self.throw()


def network_messages(events: int) -> tuple[int, float]:
    """Requests and responses between pairs of nodes, with drawn latencies and the fingerprint."""
    from kafkasim.sim.choices import Choices
    from kafkasim.sim.kernel import Kernel
    from kafkasim.sim.network import Network
    from kafkasim.sim.trace import Trace

    kernel = Kernel()
    network = Network(kernel, Choices(1), Trace())
    balls = []
    for pair in range(8):
        thrower = _Ball(network, 2 * pair, events // 32)
        network.attach(2 * pair, thrower)
        network.attach(2 * pair + 1, _Ball(network, 2 * pair + 1, 0))
        balls.append(thrower)
    started = time.perf_counter()
    for ball in balls:
        ball.throw()
    kernel.run_until_us(1 << 60)
    return kernel.events, time.perf_counter() - started


def task_waits(events: int) -> tuple[int, float]:
    """Blocking ``time.sleep`` of user code: each is a switch to the kernel and back."""
    import kafkasim

    with kafkasim.Cluster(brokers=1, seed=1) as cluster:

        def sleeper(naps: int) -> None:
            for _ in range(naps):
                time.sleep(0.001)

        naps = events // 10 // CHAINS
        tasks = [cluster.spawn(sleeper, naps) for _ in range(CHAINS)]
        started = time.perf_counter()
        cluster.run_until(lambda: all(task.done for task in tasks), timeout=3600.0)
        return naps * CHAINS, time.perf_counter() - started


def cluster_at_work(events: int) -> tuple[int, float, float]:
    """Three brokers, acks=all, small batches: requests, replication, fetches, with the history and the checks on."""
    import kafkasim

    with kafkasim.Cluster(brokers=3, seed=1) as cluster:
        cluster.create_topic("call.completed", partitions=4, replication_factor=3)
        consumer = cluster.consumer("billing", ["call.completed"], auto_offset_reset="earliest")
        while len(consumer.assignment()) < 4:
            consumer.poll(0.1)
        producer = cluster.producer(acks="all", linger_ms=0)
        first, number = cluster.kernel.events, 0
        started = time.perf_counter()
        while cluster.kernel.events - first < events // 10:
            producer.produce("call.completed", b"x" * 200, b"call-%d" % number)
            producer.poll(0)
            consumer.consume(100, 0.001)
            number += 1
        producer.flush()
        seconds = time.perf_counter() - started
        done = cluster.kernel.events - first
        started = time.perf_counter()
        report = cluster.check()
        assert report.ok, report
        return done, seconds, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--profile", action="store_true", help="say instead where the time of the cluster at work goes")
    options = parser.parse_args()
    if options.profile:
        _profile(options.events)
        return
    print(f"events a second, {machine()}")
    bare = _print("bare heapq loop", *bare_loop(options.events))
    _print("kernel, callbacks", *kernel_loop(options.events), bare)
    _print("the same with fingerprint and history", *noted_loop(options.events), bare)
    _print("messages of the network", *network_messages(options.events), bare)
    _print("blocking waits of tasks", *task_waits(options.events), bare)
    cluster_at_work(1_000)  # what is imported at first use is not the work
    events, seconds, checking = cluster_at_work(options.events)
    _print("3 brokers at work, history on", events, seconds, bare)
    print(f"  {'':40} check() of that run: {checking * 1e3:.0f} ms, {checking / seconds:.0%} of it")


def _print(what: str, events: int, seconds: float, bare: float | None = None) -> float:
    rate = events / seconds
    ratio = "" if bare is None else f"   {rate / bare:6.1%} of the bare loop"
    print(f"  {what:40} {rate:12,.0f}/s{ratio}")
    return rate


def _profile(events: int) -> None:
    import cProfile
    import pstats

    cluster_at_work(1_000)
    profiler = cProfile.Profile()
    result: Any = profiler.runcall(cluster_at_work, events)
    print(result)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    main()
