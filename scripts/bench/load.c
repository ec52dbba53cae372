/*
 * The load generator of `npm run bench`: loops of system calls with a clear clock, where Node's cost per call would hide
 * the filesystem's. Each operation prints one JSON object. Compiled by scripts/bench/tools.mjs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, MEBIBYTE = 1 << 20, POOL_MIB = 64, FILES_PER_DIRECTORY = 500 };

static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* xorshift64*: the same numbers from the same seed, on every filesystem. */
static uint64_t state = 1;

static uint64_t next_random(void)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545F4914F6CDD1DULL;
}

static void fill_random(unsigned char *into, size_t length)
{
    for (size_t i = 0; i + 8 <= length; i += 8) {
        uint64_t value = next_random();
        memcpy(into + i, &value, 8);
    }
}

static void *allocate(size_t length)
{
    void *memory = NULL;
    if (posix_memalign(&memory, BLOCK, length) != 0) die("memory");
    return memory;
}

/* Fill a pool of POOL_MIB from a file, over and over, or with random bytes where source is "-". */
static unsigned char *make_pool(const char *source)
{
    size_t length = (size_t)POOL_MIB * MEBIBYTE;
    unsigned char *pool = allocate(length);
    if (strcmp(source, "-") == 0) {
        fill_random(pool, length);
        return pool;
    }
    int fd = open(source, O_RDONLY);
    if (fd < 0) die(source);
    size_t filled = 0;
    while (filled < length) {
        ssize_t n = read(fd, pool + filled, length - filled);
        if (n < 0) die(source);
        if (n == 0 && filled == 0) die("empty source");
        if (n == 0 && lseek(fd, 0, SEEK_SET) != 0) die(source);
        filled += (size_t)n;
    }
    close(fd);
    return pool;
}

/* Sequential writes of 1 MiB, fsync at the end. Every 4 KiB carries its number, so that nothing repeats. */
static void op_write(const char *path, long mebibytes, const char *source)
{
    unsigned char *pool = make_pool(source);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) die(path);
    uint64_t block = 0;
    double start = now();
    for (long i = 0; i < mebibytes; i++) {
        unsigned char *piece = pool + (size_t)(i % POOL_MIB) * MEBIBYTE;
        char number[17];
        for (int at = 0; at < MEBIBYTE; at += BLOCK) {
            snprintf(number, sizeof number, "%08llx", (unsigned long long)block++);
            memcpy(piece + at, number, 8);
        }
        if (write(fd, piece, MEBIBYTE) != MEBIBYTE) die("write");
    }
    if (fsync(fd) != 0) die("fsync");
    double seconds = now() - start;
    close(fd);
    printf("{\"rate\":%.3f}\n", (double)mebibytes / seconds);
}

static void op_read(const char *path)
{
    unsigned char *buffer = allocate(MEBIBYTE);
    double start = now();
    int fd = open(path, O_RDONLY);
    if (fd < 0) die(path);
    double total = 0;
    for (;;) {
        ssize_t n = read(fd, buffer, MEBIBYTE);
        if (n < 0) die("read");
        if (n == 0) break;
        total += (double)n;
    }
    close(fd);
    printf("{\"rate\":%.3f}\n", total / MEBIBYTE / (now() - start));
}

static off_t random_block(off_t blocks)
{
    return (off_t)(next_random() % (uint64_t)blocks) * BLOCK;
}

static void op_random(const char *path, long count, int is_write, double limit)
{
    unsigned char *buffer = allocate(BLOCK);
    int fd = open(path, is_write ? O_WRONLY : O_RDONLY);
    if (fd < 0) die(path);
    struct stat st;
    if (fstat(fd, &st) != 0) die("fstat");
    off_t blocks = st.st_size / BLOCK;
    fill_random(buffer, BLOCK);
    double start = now();
    long done = 0;
    while (done < count) {
        off_t offset = random_block(blocks);
        if (is_write) memcpy(buffer, &done, sizeof done);
        ssize_t n = is_write ? pwrite(fd, buffer, BLOCK, offset) : pread(fd, buffer, BLOCK, offset);
        if (n != BLOCK) die(is_write ? "pwrite" : "pread");
        done++;
        if ((done & 63) == 0 && now() - start > limit) break;
    }
    if (is_write && fsync(fd) != 0) die("fsync");
    printf("{\"rate\":%.3f}\n", (double)done / (now() - start));
    close(fd);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Append 4 KiB and fsync, count times; each pair is timed. */
static void op_fsync(const char *path, long count)
{
    unsigned char *buffer = allocate(BLOCK);
    double *times = calloc((size_t)count, sizeof *times);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0644);
    if (fd < 0 || times == NULL) die(path);
    double total = 0;
    for (long i = 0; i < count; i++) {
        fill_random(buffer, BLOCK);
        double start = now();
        if (write(fd, buffer, BLOCK) != BLOCK) die("append");
        if (fsync(fd) != 0) die("fsync");
        times[i] = (now() - start) * 1e6;
        total += times[i];
    }
    close(fd);
    qsort(times, (size_t)count, sizeof *times, compare_doubles);
    printf("{\"mean\":%.3f,\"p50\":%.3f,\"p99\":%.3f}\n", total / (double)count, times[count / 2], times[count * 99 / 100]);
}

static void small_path(char *into, size_t length, const char *directory, long index, const char *suffix)
{
    snprintf(into, length, "%s/d%03ld/f%06ld%s", directory, index / FILES_PER_DIRECTORY, index, suffix);
}

static void make_directories(const char *directory, long count)
{
    char path[4096];
    for (long i = 0; i * FILES_PER_DIRECTORY < count; i++) {
        snprintf(path, sizeof path, "%s/d%03ld", directory, i);
        if (mkdir(path, 0755) != 0) die(path);
    }
}

static void create_one(const char *path, unsigned char *buffer)
{
    fill_random(buffer, BLOCK);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (fd < 0 || write(fd, buffer, BLOCK) != BLOCK || close(fd) != 0) die(path);
}

static void read_one(const char *path, unsigned char *buffer)
{
    int fd = open(path, O_RDONLY);
    if (fd < 0 || read(fd, buffer, BLOCK) != BLOCK || close(fd) != 0) die(path);
}

/* One call after another on `count` files of 4 KiB: create, stat, read, rename (to .r), delete (of .r). */
static void op_small(const char *what, const char *directory, long count)
{
    unsigned char *buffer = allocate(BLOCK);
    char path[4096], other[4096];
    struct stat st;
    if (strcmp(what, "create") == 0) make_directories(directory, count);
    double start = now();
    for (long i = 0; i < count; i++) {
        small_path(path, sizeof path, directory, i, strcmp(what, "delete") == 0 ? ".r" : "");
        if (strcmp(what, "create") == 0) {
            create_one(path, buffer);
        } else if (strcmp(what, "stat") == 0) {
            if (lstat(path, &st) != 0) die(path);
        } else if (strcmp(what, "read") == 0) {
            read_one(path, buffer);
        } else if (strcmp(what, "rename") == 0) {
            small_path(other, sizeof other, directory, i, ".r");
            if (rename(path, other) != 0) die(path);
        } else if (unlink(path) != 0) {
            die(path);
        }
    }
    printf("{\"rate\":%.3f}\n", (double)count / (now() - start));
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: load OP PATH COUNT SEED [SOURCE]\n");
        return 2;
    }
    const char *op = argv[1], *path = argv[2];
    long count = atol(argv[3]);
    state = strtoull(argv[4], NULL, 10) * 2654435761ULL + 1;
    if (strcmp(op, "write") == 0) op_write(path, count, argc > 5 ? argv[5] : "-");
    else if (strcmp(op, "seqread") == 0) op_read(path);
    else if (strcmp(op, "randread") == 0) op_random(path, count, 0, 5);
    else if (strcmp(op, "randwrite") == 0) op_random(path, count, 1, 1e9);
    else if (strcmp(op, "fsync") == 0) op_fsync(path, count);
    else op_small(op, path, count);
    return 0;
}
