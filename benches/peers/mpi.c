/* MPI between two ranks of one node, measured as the others are: `mpirun -np 2 mpi latency|rate BYTES COUNT`. Without words
   its ranks only begin and end: `mpirun -np 64 mpi`.
   Prints nanoseconds of a round trip of send and receive, or millions of messages a second one way in windows of 64. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW = 64 };

static double latency(int me, char *bytes, int size, long count)
{
    double begin = 0;
    for (long turn = -count / 10; turn < count; turn++) {
        if (turn == 0)
            begin = MPI_Wtime();
        if (me == 0)
            MPI_Send(bytes, size, MPI_BYTE, 1, 1, MPI_COMM_WORLD);
        MPI_Recv(bytes, size, MPI_BYTE, 1 - me, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        if (me == 1)
            MPI_Send(bytes, size, MPI_BYTE, 0, 1, MPI_COMM_WORLD);
    }
    return (MPI_Wtime() - begin) * 1e9 / (double)count;
}

static double rate(int me, char *bytes, int size, long count)
{
    MPI_Request requests[WINDOW];
    long windows = count / WINDOW;
    double begin = 0;
    for (long window = -windows / 10; window < windows; window++) {
        if (window == 0)
            begin = MPI_Wtime();
        for (int at = 0; at < WINDOW; at++) {
            if (me == 0)
                MPI_Isend(bytes, size, MPI_BYTE, 1, 2, MPI_COMM_WORLD, &requests[at]);
            else
                MPI_Irecv(bytes, size, MPI_BYTE, 0, 2, MPI_COMM_WORLD, &requests[at]);
        }
        MPI_Waitall(WINDOW, requests, MPI_STATUSES_IGNORE);
        if (me == 0)
            MPI_Recv(bytes, 1, MPI_BYTE, 1, 3, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        else
            MPI_Send(bytes, 1, MPI_BYTE, 0, 3, MPI_COMM_WORLD);
    }
    return (double)(windows * WINDOW) / (MPI_Wtime() - begin) / 1e6;
}

int main(int argc, char **argv)
{
    int me;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &me);
    if (argc == 1) {
        MPI_Finalize();
        return 0;
    }
    if (argc != 4)
        MPI_Abort(MPI_COMM_WORLD, 2);
    int size = atoi(argv[2]);
    char *bytes = malloc(size > 0 ? (size_t)size : 1);
    memset(bytes, 7, (size_t)size);
    MPI_Barrier(MPI_COMM_WORLD);
    double figure = (strcmp(argv[1], "rate") == 0 ? rate : latency)(me, bytes, size, atol(argv[3]));
    if (me == 0)
        printf("figure\t%f\n", figure);
    MPI_Finalize();
    return 0;
}
