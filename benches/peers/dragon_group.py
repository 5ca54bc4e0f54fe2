#!/usr/bin/env python3
"""DragonHPC's process group, measured the way benches/group.rs measures ours.

    dragon -s dragon_group.py [launch]

Prints a line for each figure: name, value and unit, with tabs between. The start of the group's manager is not in it.
"""
import multiprocessing as mp
import time

PROCESSES = 128


def launch():
    from dragon.native.process import Popen, ProcessTemplate
    from dragon.native.process_group import ProcessGroup

    group = ProcessGroup(restart=False)
    group.add_process(nproc=PROCESSES, template=ProcessTemplate("/bin/true", args=(), stdout=Popen.DEVNULL))
    group.init()
    begin = time.perf_counter()
    group.start()
    group.join()
    seconds = time.perf_counter() - begin
    group.close()
    return seconds


if __name__ == "__main__":
    import dragon  # noqa: F401  (teaches multiprocessing its start method)

    mp.set_start_method("dragon")
    print("launch", launch(), "s", sep="\t", flush=True)
