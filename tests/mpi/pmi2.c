/* A rank that speaks PMI-2 by Slurm's library, which is loaded so that no header is needed to build it. Each rank leaves a
 * value for all and one for its node, and reads its neighbour's. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static void *library;

#define CALL(type, name, ...) ((int (*) type) dlsym(library, "PMI2_" #name))(__VA_ARGS__)

int main(void)
{
    int spawned, size, rank, app, length, found, wrong = 0;
    char job[256], key[64], value[256], got[1024];

    library = dlopen("libpmi2.so.0", RTLD_NOW);
    if (!library)
        return 77;
    wrong |= CALL((int *, int *, int *, int *), Init, &spawned, &size, &rank, &app);
    wrong |= CALL((char *, int), Job_GetId, job, sizeof job);

    snprintf(key, sizeof key, "card-%d", rank);
    snprintf(value, sizeof value, "a=b %d", rank);
    wrong |= CALL((const char *, const char *), KVS_Put, key, value);
    wrong |= CALL((void), KVS_Fence);

    snprintf(key, sizeof key, "card-%d", (rank + 1) % size);
    snprintf(value, sizeof value, "a=b %d", (rank + 1) % size);
    wrong |= CALL((const char *, int, const char *, char *, int, int *), KVS_Get, job, -1, key, got, sizeof got, &length);
    wrong |= strcmp(got, value) != 0;
    wrong |= CALL((const char *, char *, int, int *), Info_GetJobAttr, "PMI_process_mapping", got, sizeof got, &found);
    wrong |= !found || strncmp(got, "(vector,", 8);
    if (rank == 0)
        wrong |= CALL((const char *, const char *), Info_PutNodeAttr, "segment", "/there");
    wrong |= CALL((const char *, char *, int, int *, int), Info_GetNodeAttr, "segment", got, sizeof got, &found, 1);
    wrong |= strcmp(got, "/there") != 0;
    wrong |= CALL((void), Finalize);
    printf("rank %d of %d in %s: %s\n", rank, size, job, wrong ? "WRONG" : "right");
    return wrong != 0;
}
