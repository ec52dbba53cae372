/*
 * System calls by line: the hands of the POSIX suite, for what node:fs cannot do.
 * A request is `name argument…`, one line; strings are percent-encoded, data is hexadecimal, numbers decimal.
 * The answer is `+ value…` or `- ERRNO`. One process per actor, so that several users and lock owners can act at once.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { MAX_ARGUMENTS = 16, MAX_HANDLES = 64, BUFFER_BYTES = 4 << 20, PAGE_BYTES = 4096 };

static char *arguments[MAX_ARGUMENTS + 1];
static unsigned char *buffer; /* page-aligned, so that O_DIRECT takes it */
static DIR *directories[MAX_HANDLES];
static struct { unsigned char *at; size_t length; } maps[MAX_HANDLES];

/* Arguments */

static char *text(int i) { return arguments[i] ? arguments[i] : ""; }
static long long number(int i) { return strtoll(text(i), NULL, 10); }
static int whole(int i) { return (int)number(i); }

static int nibble(char c) { return c <= '9' ? c - '0' : (c | 32) - 'a' + 10; }

/* Decodes hexadecimal data into `buffer`. */
static size_t data(int i) {
  const char *hex = text(i);
  size_t length = strlen(hex) / 2;
  for (size_t k = 0; k < length; k++) buffer[k] = (unsigned char)(nibble(hex[2 * k]) << 4 | nibble(hex[2 * k + 1]));
  return length;
}

static void percent_decode(char *in) {
  char *out = in;
  for (; *in; in++) {
    if (*in == '%') { *out++ = (char)(nibble(in[1]) << 4 | nibble(in[2])); in += 2; }
    else *out++ = *in;
  }
  *out = 0;
}

/* "omit", "now" or seconds:nanoseconds */
static struct timespec moment(int i) {
  struct timespec t = {0, 0};
  if (!strcmp(text(i), "omit")) t.tv_nsec = UTIME_OMIT;
  else if (!strcmp(text(i), "now")) t.tv_nsec = UTIME_NOW;
  else {
    char *colon = strchr(text(i), ':');
    t.tv_sec = strtoll(text(i), NULL, 10);
    t.tv_nsec = colon ? strtol(colon + 1, NULL, 10) : 0;
  }
  return t;
}

/* Answers */

static void failed(int error) {
  const char *name = strerrorname_np(error);
  printf("- %s\n", name ? name : "?");
}
static void answer(long long result) {
  if (result < 0) failed(errno); else printf("+ %lld\n", result);
}
static void print_text(const char *s) {
  putchar(' ');
  if (!*s) fputs("%00", stdout);
  for (; *s; s++) {
    unsigned char c = (unsigned char)*s;
    if (c <= ' ' || c == '%' || c >= 127) printf("%%%02x", c); else putchar(c);
  }
}
static void print_data(const unsigned char *bytes, size_t length) {
  putchar(' ');
  for (size_t i = 0; i < length; i++) { putchar("0123456789abcdef"[bytes[i] >> 4]); putchar("0123456789abcdef"[bytes[i] & 15]); }
}
static void answer_data(ssize_t length) {
  if (length < 0) { failed(errno); return; }
  putchar('+'); print_data(buffer, (size_t)length); putchar('\n');
}
/* Names that each end in NUL, as listxattr(2) gives them. */
static void answer_names(ssize_t length) {
  if (length < 0) { failed(errno); return; }
  putchar('+');
  for (char *p = (char *)buffer; p < (char *)buffer + length; p += strlen(p) + 1) print_text(p);
  putchar('\n');
}

#include "driver-data.h"

/* Names */

static void do_mkdir(void) { answer(mkdir(text(1), (mode_t)whole(2))); }
static void do_rmdir(void) { answer(rmdir(text(1))); }
static void do_unlink(void) { answer(unlink(text(1))); }
static void do_rename(void) { answer(renameat2(AT_FDCWD, text(1), AT_FDCWD, text(2), (unsigned)whole(3))); }
static void do_link(void) { answer(linkat(AT_FDCWD, text(1), AT_FDCWD, text(2), whole(3))); }
static void do_symlink(void) { answer(symlink(text(1), text(2))); }
static void do_mknod(void) { answer(mknod(text(1), (mode_t)whole(2), makedev((unsigned)whole(3), (unsigned)whole(4)))); }
static void do_readlink(void) { answer_data(readlink(text(1), (char *)buffer, number(2) ? (size_t)number(2) : PAGE_BYTES)); }
static void do_chdir(void) { answer(chdir(text(1))); }
static void do_fchdir(void) { answer(fchdir(whole(1))); }
static void do_bind(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, text(1), sizeof address.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 1)) { failed(errno); close(fd); return; }
  answer(fd);
}
static void do_connect(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, text(1), sizeof address.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int result = connect(fd, (struct sockaddr *)&address, sizeof address), error = errno;
  close(fd);
  errno = error;
  answer(result);
}

/* File handles */

/* Decoded into `buffer` by open_handle; any filesystem's fits. */
static struct file_handle *handle(void) { return (struct file_handle *)buffer; }
static void do_handle(void) {
  int mount;
  handle()->handle_bytes = MAX_HANDLE_SZ;
  if (name_to_handle_at(AT_FDCWD, text(1), handle(), &mount, 0)) { failed(errno); return; }
  answer_data((ssize_t)(sizeof(struct file_handle) + handle()->handle_bytes));
}
static void do_open_handle(void) {
  data(1);
  int mount = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int result = open_by_handle_at(mount, handle(), whole(2)), error = errno;
  close(mount);
  errno = error;
  answer(result);
}
/* forget_names mount-point: a remount that changes nothing has the kernel let go of every name nobody uses. */
static void do_forget_names(void) {
  struct statvfs s;
  if (statvfs(text(1), &s)) { failed(errno); return; }
  unsigned long flags = s.f_flag & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME);
  answer(mount(NULL, text(1), NULL, MS_REMOUNT | flags, NULL));
}

/* Attributes */

static void print_time(struct statx_timestamp t) { printf(" %" PRId64 ":%u", (int64_t)t.tv_sec, t.tv_nsec); }
static void answer_stat(int fd, const char *path, int flags) {
  struct statx s;
  if (statx(fd, path, flags, STATX_BASIC_STATS | STATX_BTIME, &s)) { failed(errno); return; }
  printf("+ %u %u %u %u %" PRIu64 " %" PRIu64 " %" PRIu64 " %u %u %u", s.stx_mode, s.stx_nlink, s.stx_uid, s.stx_gid, (uint64_t)s.stx_size,
         (uint64_t)s.stx_blocks, (uint64_t)s.stx_ino, s.stx_rdev_major, s.stx_rdev_minor, s.stx_blksize);
  print_time(s.stx_atime); print_time(s.stx_mtime); print_time(s.stx_ctime); print_time(s.stx_btime);
  printf(" %d\n", !!(s.stx_mask & STATX_BTIME));
}
static void do_stat(void) { answer_stat(AT_FDCWD, text(1), 0); }
static void do_lstat(void) { answer_stat(AT_FDCWD, text(1), AT_SYMLINK_NOFOLLOW); }
static void do_fstat(void) { answer_stat(whole(1), "", AT_EMPTY_PATH); }
/* The mode alone: a kernel that caches attributes may answer this where it would fetch the others. */
static void do_mode(void) {
  struct statx s;
  answer(statx(AT_FDCWD, text(1), 0, STATX_MODE, &s) ? -1 : s.stx_mode);
}
/* ctime and mtime of a path, each asked for alone, symlinks not followed. */
static void do_times(void) {
  struct statx c, m;
  int flags = AT_SYMLINK_NOFOLLOW;
  if (statx(AT_FDCWD, text(1), flags, STATX_CTIME, &c) || statx(AT_FDCWD, text(1), flags, STATX_MTIME, &m)) { failed(errno); return; }
  putchar('+');
  print_time(c.stx_ctime); print_time(m.stx_mtime);
  putchar('\n');
}
static void do_chmod(void) { answer(chmod(text(1), (mode_t)whole(2))); }
static void do_fchmod(void) { answer(fchmod(whole(1), (mode_t)whole(2))); }
static void do_chown(void) { answer(chown(text(1), (uid_t)number(2), (gid_t)number(3))); }
static void do_lchown(void) { answer(lchown(text(1), (uid_t)number(2), (gid_t)number(3))); }
static void do_fchown(void) { answer(fchown(whole(1), (uid_t)number(2), (gid_t)number(3))); }
static void do_access(void) { answer(faccessat(AT_FDCWD, text(1), whole(2), AT_EACCESS)); }
/* utimens path atime mtime flags */
static void do_utimens(void) {
  struct timespec times[2] = {moment(2), moment(3)};
  answer(utimensat(AT_FDCWD, text(1), times, whole(4)));
}
static void do_futimens(void) {
  struct timespec times[2] = {moment(2), moment(3)};
  answer(futimens(whole(1), times));
}
static void do_statfs(void) {
  struct statfs s;
  if (statfs(text(1), &s)) { failed(errno); return; }
  printf("+ %ld %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %ld\n", (long)s.f_bsize, (uint64_t)s.f_blocks, (uint64_t)s.f_bfree,
         (uint64_t)s.f_bavail, (uint64_t)s.f_files, (uint64_t)s.f_ffree, (long)s.f_namelen);
}
static void do_setxattr(void) { size_t n = data(3); answer(setxattr(text(1), text(2), buffer, n, whole(4))); }
static void do_lsetxattr(void) { size_t n = data(3); answer(lsetxattr(text(1), text(2), buffer, n, whole(4))); }
static void do_fsetxattr(void) { size_t n = data(3); answer(fsetxattr(whole(1), text(2), buffer, n, whole(4))); }
/* setxattr_fill path name length: a value of equal bytes */
static void do_setxattr_fill(void) { memset(buffer, 'v', (size_t)number(3)); answer(setxattr(text(1), text(2), buffer, (size_t)number(3), 0)); }
static void do_getxattr(void) { answer_data(getxattr(text(1), text(2), buffer, arguments[3] ? (size_t)number(3) : 65536)); }
static void do_lgetxattr(void) { answer_data(lgetxattr(text(1), text(2), buffer, 65536)); }
static void do_xattr_length(void) { answer(getxattr(text(1), text(2), NULL, 0)); }
static void do_fgetxattr(void) { answer_data(fgetxattr(whole(1), text(2), buffer, 65536)); }
static void do_listxattr(void) { answer_names(listxattr(text(1), (char *)buffer, arguments[2] ? (size_t)number(2) : 65536)); }
static void do_llistxattr(void) { answer_names(llistxattr(text(1), (char *)buffer, 65536)); }
static void do_removexattr(void) { answer(removexattr(text(1), text(2))); }
static void do_lremovexattr(void) { answer(lremovexattr(text(1), text(2))); }

/* Directories */

static void keep_directory(DIR *d) {
  int i = 0;
  while (d && i < MAX_HANDLES && directories[i]) i++;
  if (i == MAX_HANDLES) {
    closedir(d);
    failed(EMFILE);
    return;
  }
  if (d) directories[i] = d;
  answer(d ? i : -1);
}
static void do_opendir(void) { keep_directory(opendir(text(1))); }
static void do_fdopendir(void) { keep_directory(fdopendir(whole(1))); }
static void do_closedir(void) { DIR *d = directories[whole(1)]; directories[whole(1)] = NULL; answer(closedir(d)); }
/* readdir handle count: name, type, inode and position after, for each */
static void do_readdir(void) {
  putchar('+');
  for (long long i = 0; i < number(2); i++) {
    struct dirent *entry = readdir(directories[whole(1)]);
    if (!entry) break;
    print_text(entry->d_name);
    printf(" %u %" PRIu64 " %ld", entry->d_type, (uint64_t)entry->d_ino, telldir(directories[whole(1)]));
  }
  putchar('\n');
}
static void do_telldir(void) { printf("+ %ld\n", telldir(directories[whole(1)])); }
static void do_seekdir(void) { seekdir(directories[whole(1)], (long)number(2)); printf("+ 0\n"); }
static void do_rewinddir(void) { rewinddir(directories[whole(1)]); printf("+ 0\n"); }
/* list path: every name but "." and ".." */
static void do_list(void) {
  DIR *d = opendir(text(1));
  if (!d) { failed(errno); return; }
  putchar('+');
  for (struct dirent *entry; (entry = readdir(d));) {
    if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) print_text(entry->d_name);
  }
  putchar('\n');
  closedir(d);
}
/* create_many, unlink_many: prefix from to */
static void do_create_many(void) {
  char path[PAGE_BYTES];
  for (long long i = number(2); i < number(3); i++) {
    snprintf(path, sizeof path, "%s%06lld", text(1), i);
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
    if (fd < 0) { failed(errno); return; }
    close(fd);
  }
  printf("+ 0\n");
}
/* link_many prefix from to target */
static void do_link_many(void) {
  char path[PAGE_BYTES];
  for (long long i = number(2); i < number(3); i++) {
    snprintf(path, sizeof path, "%s%06lld", text(1), i);
    if (link(text(4), path)) { failed(errno); return; }
  }
  printf("+ 0\n");
}
static void do_unlink_many(void) {
  char path[PAGE_BYTES];
  for (long long i = number(2); i < number(3); i++) {
    snprintf(path, sizeof path, "%s%06lld", text(1), i);
    if (unlink(path)) { failed(errno); return; }
  }
  printf("+ 0\n");
}

/* Locks */

/* lock fd command type start length; a get answers type, start, length and pid */
static void do_lock(void) {
  struct flock lock = {.l_type = (short)whole(3), .l_whence = SEEK_SET, .l_start = number(4), .l_len = number(5)};
  if (fcntl(whole(1), whole(2), &lock)) { failed(errno); return; }
  printf("+ %d %lld %lld %d\n", lock.l_type, (long long)lock.l_start, (long long)lock.l_len, (int)lock.l_pid);
}
static void do_flock(void) { answer(flock(whole(1), whole(2))); }
/* append_many path data count */
static void do_append_many(void) {
  size_t length = data(2);
  int fd = open(text(1), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) { failed(errno); return; }
  for (long long i = 0; i < number(3); i++) {
    if (write(fd, buffer, length) != (ssize_t)length) { failed(errno); close(fd); return; }
  }
  answer(close(fd));
}
static int locked(int fd, char how, int type) {
  struct flock lock = {.l_type = (short)type, .l_whence = SEEK_SET};
  if (how == 'f') return flock(fd, type == F_WRLCK ? LOCK_EX : LOCK_UN);
  return fcntl(fd, how == 'o' ? F_OFD_SETLKW : F_SETLKW, &lock);
}
/* increment path count posix|flock|ofd: a counter in a file, read and written under a lock */
static void do_increment(void) {
  int fd = open(text(1), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) { failed(errno); return; }
  for (long long i = 0; i < number(2); i++) {
    uint64_t value = 0;
    if (locked(fd, *text(3), F_WRLCK) || pread(fd, &value, sizeof value, 0) < 0) { failed(errno); close(fd); return; }
    value++;
    if (pwrite(fd, &value, sizeof value, 0) != sizeof value || locked(fd, *text(3), F_UNLCK)) { failed(errno); close(fd); return; }
  }
  answer(close(fd));
}

/* Memory maps */

/* mmap fd length protection flags offset */
static void do_mmap(void) {
  for (int i = 0; i < MAX_HANDLES; i++) {
    if (maps[i].at) continue;
    void *at = mmap(NULL, (size_t)number(2), whole(3), whole(4), whole(1), number(5));
    if (at == MAP_FAILED) { failed(errno); return; }
    maps[i].at = at;
    maps[i].length = (size_t)number(2);
    answer(i);
    return;
  }
  failed(EMFILE);
}
static void do_peek(void) { putchar('+'); print_data(maps[whole(1)].at + number(2), (size_t)number(3)); putchar('\n'); }
static void do_poke(void) { size_t n = data(3); memcpy(maps[whole(1)].at + number(2), buffer, n); printf("+ 0\n"); }
static void do_msync(void) { answer(msync(maps[whole(1)].at, maps[whole(1)].length, MS_SYNC)); }
static void do_munmap(void) { unsigned char *at = maps[whole(1)].at; maps[whole(1)].at = NULL; answer(munmap(at, maps[whole(1)].length)); }
/* touch_map map offset: reads one byte in a child; answers the signal that killed it, or 0 */
static void do_touch_map(void) {
  pid_t child = fork();
  if (!child) { volatile unsigned char *at = maps[whole(1)].at; unsigned char byte = at[number(2)]; _exit(byte & 0); }
  int status;
  waitpid(child, &status, 0);
  printf("+ %d\n", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

/* The process */

static void do_become(void) {
  gid_t groups[MAX_HANDLES];
  int count = 0;
  for (char *g = strtok(text(3), ","); g; g = strtok(NULL, ",")) groups[count++] = (gid_t)atoi(g);
  if (setgroups((size_t)count, groups) || setresgid((gid_t)whole(2), (gid_t)whole(2), (gid_t)whole(2))) { failed(errno); return; }
  answer(setresuid((uid_t)whole(1), (uid_t)whole(1), (uid_t)whole(1)));
}
static void do_umask(void) { answer(umask((mode_t)whole(1))); }
static void do_pid(void) { answer(getpid()); }
/* exec path argument: answers exit status and what it printed */
static void do_exec(void) {
  int output[2], error[2], failure = 0, status = 0;
  if (pipe(output) || pipe2(error, O_CLOEXEC)) { failed(errno); return; }
  pid_t child = fork();
  if (!child) {
    dup2(output[1], 1);
    close(output[0]); close(output[1]);
    execv(text(1), (char *[]){text(1), arguments[2], NULL});
    _exit(write(error[1], &errno, sizeof errno) != sizeof errno);
  }
  close(output[1]); close(error[1]);
  if (read(error[0], &failure, sizeof failure) <= 0) failure = 0;
  ssize_t length = 0, got;
  while ((got = read(output[0], buffer + length, 65536)) > 0) length += got;
  close(output[0]); close(error[0]);
  waitpid(child, &status, 0);
  if (failure) { failed(failure); return; }
  printf("+ %d", WEXITSTATUS(status)); print_data(buffer, (size_t)length); putchar('\n');
}
static void on_alarm(int signal) { (void)signal; }
/* alarm milliseconds: again and again until 0 is asked for; calls are not restarted */
static void do_alarm(void) {
  struct sigaction action = {.sa_handler = on_alarm};
  struct timeval period = {whole(1) / 1000, whole(1) % 1000 * 1000};
  struct itimerval timer = {period, period};
  answer(sigaction(SIGALRM, &action, NULL) || setitimer(ITIMER_REAL, &timer, NULL) ? -1 : 0);
}
static void do_watch(void) {
  int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (fd < 0 || inotify_add_watch(fd, text(1), (uint32_t)number(2)) < 0) { failed(errno); return; }
  answer(fd);
}
/* events fd: mask and name of each */
static void do_events(void) {
  ssize_t length = read(whole(1), buffer, 65536);
  if (length < 0) { failed(errno); return; }
  putchar('+');
  for (unsigned char *p = buffer; p < buffer + length;) {
    struct inotify_event *event = (void *)p;
    printf(" %u", event->mask);
    print_text(event->len ? event->name : "");
    p += sizeof *event + event->len;
  }
  putchar('\n');
}
/* Lets go of everything the last case held. */
static void do_reset(void) {
  setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
  for (int i = 0; i < MAX_HANDLES; i++) {
    if (directories[i]) closedir(directories[i]);
    if (maps[i].at) munmap(maps[i].at, maps[i].length);
    directories[i] = NULL;
    maps[i].at = NULL;
  }
  close_range(3, ~0U, 0);
  umask(022);
  answer(chdir(text(1)));
}

#define CALL(name) {#name, do_##name}
static const struct { const char *name; void (*run)(void); } calls[] = {
  CALL(open), CALL(close), CALL(read), CALL(pread), CALL(write), CALL(pwrite), CALL(pfill), CALL(lseek), CALL(truncate), CALL(ftruncate),
  CALL(fsync), CALL(fdatasync), CALL(syncfs), CALL(fallocate), CALL(getfl), CALL(setfl), CALL(clone), CALL(ioctl), CALL(copy),
  CALL(sendfile), CALL(splice), CALL(aio_cycle), CALL(read_for), CALL(mkdir), CALL(rmdir), CALL(unlink), CALL(rename), CALL(link), CALL(symlink), CALL(mknod),
  CALL(readlink), CALL(chdir), CALL(fchdir), CALL(bind), CALL(connect), CALL(handle), CALL(open_handle), CALL(forget_names), CALL(stat), CALL(lstat), CALL(fstat), CALL(mode), CALL(times), CALL(chmod), CALL(fchmod),
  CALL(chown), CALL(lchown), CALL(fchown), CALL(access), CALL(utimens), CALL(futimens), CALL(statfs), CALL(setxattr), CALL(lsetxattr),
  CALL(fsetxattr), CALL(setxattr_fill), CALL(getxattr), CALL(lgetxattr), CALL(xattr_length), CALL(fgetxattr), CALL(listxattr),
  CALL(llistxattr), CALL(removexattr), CALL(lremovexattr), CALL(opendir), CALL(fdopendir), CALL(closedir), CALL(readdir), CALL(telldir), CALL(seekdir),
  CALL(rewinddir), CALL(list), CALL(create_many), CALL(link_many), CALL(unlink_many), CALL(lock), CALL(flock), CALL(append_many), CALL(increment),
  CALL(mmap), CALL(peek), CALL(poke), CALL(msync), CALL(munmap), CALL(touch_map), CALL(become), CALL(umask), CALL(pid), CALL(exec),
  CALL(alarm), CALL(watch), CALL(events), CALL(reset),
};

static void serve(char *line) {
  int count = 0;
  for (char *token = strtok(line, " \n"); token && count < MAX_ARGUMENTS; token = strtok(NULL, " \n")) arguments[count++] = token;
  for (int i = count; i <= MAX_ARGUMENTS; i++) arguments[i] = NULL;
  if (!count) return;
  for (int i = 0; i < count; i++) percent_decode(arguments[i]);
  for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
    if (!strcmp(calls[i].name, arguments[0])) { calls[i].run(); return; }
  }
  printf("- UNKNOWN\n");
}

int main(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "--ids")) { printf("%d %d", (int)geteuid(), (int)getegid()); return 0; }
  if (posix_memalign((void **)&buffer, PAGE_BYTES, BUFFER_BYTES)) return 1;
  signal(SIGPIPE, SIG_IGN);
  char *line = NULL;
  size_t capacity = 0;
  for (;;) {
    if (getline(&line, &capacity, stdin) > 0) { serve(line); fflush(stdout); }
    else if (feof(stdin) || errno != EINTR) return 0;
    else clearerr(stdin); /* a late alarm */
  }
}
