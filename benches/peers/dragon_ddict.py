#!/usr/bin/env python3
"""DragonHPC's distributed dictionary with two client processes, measured the way benches/ddict.rs measures ours.

    dragon -s dragon_ddict.py [two]

Half of the calls of each client are gets and half are puts of 8 bytes. Prints the calls of both clients a second:
name, value and unit, with tabs between.
"""
import time

KEYS = 1000
TURNS = 1000


def client(table, meeting, spans):
    """Gets and puts in turn, on the keys that the other client has too."""
    value = b"\x07" * 8
    table[0]
    meeting.wait()
    start = time.monotonic()
    for turn in range(TURNS):
        key = turn * 7919 % KEYS
        if turn % 2 == 0:
            table[key]
        else:
            table[key] = value
    spans.put((start, time.monotonic()))
    table.detach()


def two():
    """Calls a second of two clients together."""
    import multiprocessing

    import dragon_ddict as named
    from dragon.data.ddict import DDict

    table = DDict(1, 1, 1 << 30)
    for key in range(KEYS):
        table[key] = b"\x00" * 8
    meeting, spans = multiprocessing.Barrier(2), multiprocessing.Queue()
    clients = [multiprocessing.Process(target=named.client, args=(table, meeting, spans)) for _ in range(2)]
    for process in clients:
        process.start()
    starts, ends = zip(*[spans.get() for _ in clients])
    for process in clients:
        process.join()
    table.destroy()
    return 2 * TURNS / (max(ends) - min(starts))


if __name__ == "__main__":
    import multiprocessing

    import dragon  # noqa: F401  (teaches multiprocessing its start method)

    multiprocessing.set_start_method("dragon")
    print("two", two(), "calls/s", sep="\t", flush=True)
