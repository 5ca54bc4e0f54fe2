#!/usr/bin/env python3
"""DragonHPC's process group, measured the way benches/group.rs measures ours.

    dragon -s dragon_group.py

Prints a line for each figure: name, value and unit, with tabs between. `whole` is from nothing to the last end; `launch`
leaves out the start of the group's manager.
"""
import multiprocessing as mp
import time

PROCESSES = 128


def launch():
    from dragon.native.process import Popen, ProcessTemplate
    from dragon.native.process_group import ProcessGroup

    group = ProcessGroup(restart=False)
    group.add_process(nproc=PROCESSES, template=ProcessTemplate("/bin/true", args=(), stdout=Popen.DEVNULL))
    begin = time.perf_counter()
    group.init()
    ready = time.perf_counter()
    group.start()
    group.join()
    end = time.perf_counter()
    group.close()
    return end - begin, end - ready


if __name__ == "__main__":
    import dragon  # noqa: F401  (teaches multiprocessing its start method)

    mp.set_start_method("dragon")
    whole, started = launch()
    print("whole", whole, "s", sep="\t")
    print("launch", started, "s", sep="\t", flush=True)
