/* An MPI program as anybody writes it: it knows nothing of who starts it. Each rank checks an allreduce, an alltoall and
 * which ranks share its node, and says so in one line.
 *
 *   mpicc -o hello hello.c
 *   hello [abort | exit | kill | leave]    what rank 1 does instead of ending as it should
 */
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is_wrong(int rank, int size)
{
    long mine = rank + 1, sum = 0;
    MPI_Allreduce(&mine, &sum, 1, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);

    int *give = malloc(size * sizeof(int)), *got = malloc(size * sizeof(int));
    for (int other = 0; other < size; other++)
        give[other] = rank * 1000 + other;
    MPI_Alltoall(give, 1, MPI_INT, got, 1, MPI_INT, MPI_COMM_WORLD);

    int wrong = sum != (long) size * (size + 1) / 2;
    for (int other = 0; other < size; other++)
        wrong |= got[other] != other * 1000 + rank;
    free(give);
    free(got);
    MPI_Barrier(MPI_COMM_WORLD);
    return wrong;
}

static void misbehave(const char *how)
{
    if (!strcmp(how, "abort"))
        MPI_Abort(MPI_COMM_WORLD, 7);
    if (!strcmp(how, "exit"))
        _exit(9);
    if (!strcmp(how, "kill"))
        raise(SIGKILL);
    if (!strcmp(how, "leave"))
        _exit(0);
}

int main(int argc, char **argv)
{
    int rank, size, local_rank, local_size;
    char library[MPI_MAX_LIBRARY_VERSION_STRING];
    MPI_Comm node;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Get_library_version(library, &local_size);
    library[strcspn(library, "\n,")] = 0;

    int wrong = is_wrong(rank, size);
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
    MPI_Comm_rank(node, &local_rank);
    MPI_Comm_size(node, &local_size);
    printf("rank %d of %d, %d of %d on its node: %s [%s]\n", rank, size, local_rank, local_size,
           wrong ? "WRONG" : "right", library);
    fflush(stdout);

    if (argc > 1 && rank == 1)
        misbehave(argv[1]);
    if (argc > 1)
        MPI_Barrier(MPI_COMM_WORLD); /* to which rank 1 does not come */
    MPI_Comm_free(&node);
    MPI_Finalize();
    return wrong;
}
