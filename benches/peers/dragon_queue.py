#!/usr/bin/env python3
"""DragonHPC's native queue between two processes, measured the way benches/queue.rs measures ours.

    dragon -s dragon_queue.py [8] [64] [1024] [65536] [1048576]

Prints a line for each message length: length, round trip in nanoseconds, unit, with tabs between.
"""
import sys
import time

TURNS = {8: 2000, 64: 2000, 1024: 2000, 65536: 1000, 1048576: 200}


def echo(there, back, turns):
    for _ in range(turns):
        back.put(there.get())


def round_trip(length):
    import dragon_queue as named
    from dragon.native.process import Process
    from dragon.native.queue import Queue

    turns = TURNS[length]
    warm_up = turns // 10
    there, back = Queue(), Queue()
    partner = Process(target=named.echo, args=(there, back, turns + warm_up))
    partner.start()
    message = b"\x07" * length
    for turn in range(-warm_up, turns):
        if turn == 0:
            start = time.perf_counter()
        there.put(message)
        back.get()
    seconds = time.perf_counter() - start
    partner.join()
    return seconds * 1e9 / turns


if __name__ == "__main__":
    for word in sys.argv[1:] or TURNS:
        print(word, round_trip(int(word)), "ns", sep="\t", flush=True)
