#!/usr/bin/env python3
"""DragonHPC's native process pool, measured the way benches/pool.rs measures ours.

    dragon -s dragon_pool.py [map] [one] [start] [join]

Prints a line for each figure: name, value and unit, with tabs between. Without words, measures all.
"""
import multiprocessing
import statistics
import sys
import time

meeting = None


def same(item):
    return item


def bring(barrier):
    """Initializer: gives the worker the place where all workers meet."""
    global meeting
    meeting = barrier


def meet(_):
    """Ends only when every worker is in it, so that each must run one."""
    meeting.wait()


def say(name, value, unit):
    print(name, value, unit, sep="\t", flush=True)


def timed(body):
    start = time.perf_counter()
    body()
    return time.perf_counter() - start


def until_all_ran(Pool, workers):
    """A new pool of which every worker has run a task, and how long that took."""
    # The functions are named by this file's module, not by __main__: Dragon sends the latter by value, and
    # a worker would not find what the initializer stored.
    import dragon_pool as named

    barrier = multiprocessing.Barrier(workers)
    start = time.perf_counter()
    pool = Pool(workers, initializer=named.bring, initargs=(barrier,))
    for answer in [pool.apply_async(named.meet, (0,)) for _ in range(workers)]:
        answer.get()
    return pool, time.perf_counter() - start


def close(pool):
    pool.close()
    pool.join()


def rate(pool, items, chunk):
    import dragon_pool as named

    return items / timed(lambda: pool.map_async(named.same, range(items), chunk).get())


def main():
    from dragon.native.pool import Pool

    wanted = sys.argv[1:] or ["map", "one", "start", "join"]
    if "map" in wanted or "one" in wanted:
        pool = Pool(2)
        rate(pool, 64, 1)
        if "map" in wanted:
            say("map", statistics.median(rate(pool, 100_000, None) for _ in range(5)), "tasks/s")
        if "one" in wanted:
            say("one", rate(pool, 1_000, 1), "tasks/s")
        close(pool)
    if "start" in wanted:
        pool, seconds = until_all_ran(Pool, 8)
        say("start", seconds, "s")
        close(pool)
    if "join" in wanted:
        pool, _ = until_all_ran(Pool, 32)
        say("join", timed(lambda: close(pool)), "s")


if __name__ == "__main__":
    import dragon  # noqa: F401  (teaches multiprocessing its start method)

    multiprocessing.set_start_method("dragon")
    main()
