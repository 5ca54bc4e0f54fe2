#!/usr/bin/env python3
"""DragonHPC's native queue between processes on two nodes, over its tcp agent; started by dragon_tcp.sh.

Prints a line for each message length: length, nanoseconds of a round trip, with a tab between.
"""
import socket
import time

TURNS = {8: 10, 1024: 10, 65536: 5, 1048576: 3}


def echo(there, back, turns):
    for _ in range(turns):
        back.put(there.get())


def main():
    import dragon_tcp as named
    from dragon.infrastructure.policy import Policy
    from dragon.native.machine import Node, System
    from dragon.native.process import Process
    from dragon.native.queue import Queue

    hosts = [Node(node).hostname for node in System().nodes]
    other = next(host for host in hosts if host != socket.gethostname())
    elsewhere = Policy(placement=Policy.Placement.HOST_NAME, host_name=other)
    there, back = Queue(), Queue()
    partner = Process(target=named.echo, args=(there, back, sum(TURNS.values()) + len(TURNS)), policy=elsewhere)
    partner.start()
    for length, turns in TURNS.items():
        message = b"\x07" * length
        there.put(message)
        back.get()
        start = time.perf_counter()
        for _ in range(turns):
            there.put(message)
            back.get()
        print(length, (time.perf_counter() - start) * 1e9 / turns, sep="\t", flush=True)
    partner.join()


if __name__ == "__main__":
    main()
