/* What an MPI program sees: when it has left MPI_Init, and how long a message takes.
 *
 *   mpi_times init            each rank prints the clock (ns, CLOCK_MONOTONIC) when it has left MPI_Init
 *   mpi_times latency BYTES   rank 0 prints the one-way time of ping-pong in us, as osu_latency does
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void ping_pong(int rank, int bytes)
{
    enum { WARM = 2000, TURNS = 20000 };
    char *buffer = calloc(bytes, 1);
    double begin = 0;
    for (int turn = 0; turn < WARM + TURNS; turn++) {
        if (turn == WARM)
            begin = MPI_Wtime();
        if (rank == 0) {
            MPI_Send(buffer, bytes, MPI_CHAR, 1, 1, MPI_COMM_WORLD);
            MPI_Recv(buffer, bytes, MPI_CHAR, 1, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        } else if (rank == 1) {
            MPI_Recv(buffer, bytes, MPI_CHAR, 0, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            MPI_Send(buffer, bytes, MPI_CHAR, 0, 1, MPI_COMM_WORLD);
        }
    }
    if (rank == 0)
        printf("%.4f\n", (MPI_Wtime() - begin) * 1e6 / TURNS / 2);
    free(buffer);
}

int main(int argc, char **argv)
{
    struct timespec now;
    int rank;
    MPI_Init(&argc, &argv);
    clock_gettime(CLOCK_MONOTONIC, &now);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (argc > 2 && !strcmp(argv[1], "latency"))
        ping_pong(rank, atoi(argv[2]));
    else
        printf("%lld\n", now.tv_sec * 1000000000LL + now.tv_nsec);
    MPI_Finalize();
    return 0;
}
