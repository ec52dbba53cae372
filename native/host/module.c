// What Node lacks: to put files of a snapshot into a directory of the host, and to keep secrets out of dumps, debuggers and swap.
// Descriptors, names and lengths in, errno out; no policy. Every function but lockedBytes answers a value >= 0, or -errno. Names
// are one step below a directory's descriptor and never followed.

#include <node_api.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define TEXT_BYTES 4096
// Through /proc a descriptor names its file itself, also where that is a symlink or the descriptor an O_PATH one.
#define PROC_BYTES 64

static napi_value answer(napi_env env, int result) {
  napi_value value;
  napi_create_int32(env, result < 0 ? -errno : result, &value);
  return value;
}

static napi_value invalid(napi_env env) {
  errno = EINVAL;
  return answer(env, -1);
}

static int32_t int_argument(napi_env env, napi_value value) {
  int32_t result = -1;
  napi_get_value_int32(env, value, &result);
  return result;
}

static int64_t long_argument(napi_env env, napi_value value) {
  int64_t result = 0;
  napi_get_value_int64(env, value, &result);
  return result;
}

// A latin1-decoded byte string without NUL. False when too long or not a string.
static bool text_argument(napi_env env, napi_value value, char text[TEXT_BYTES]) {
  size_t length = 0;
  return napi_get_value_string_latin1(env, value, NULL, 0, &length) == napi_ok && length < TEXT_BYTES &&
         napi_get_value_string_latin1(env, value, text, TEXT_BYTES, &length) == napi_ok && strlen(text) == length;
}

// setXattr(fd, name, value): of the file that fd, perhaps an O_PATH one, refers to itself.
static napi_value set_xattr(napi_env env, napi_callback_info info) {
  size_t count = 3, length = 0;
  napi_value arguments[3];
  char name[TEXT_BYTES], path[PROC_BYTES];
  void *bytes = NULL;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (count < 3 || !text_argument(env, arguments[1], name) ||
      napi_get_typedarray_info(env, arguments[2], NULL, &length, &bytes, NULL, NULL) != napi_ok)
    return invalid(env);
  snprintf(path, sizeof path, "/proc/self/fd/%d", int_argument(env, arguments[0]));
  return answer(env, setxattr(path, name, bytes, length, 0));
}

// setTimes(fd, accessSeconds, accessNanoseconds, modifySeconds, modifyNanoseconds): of the file of fd, perhaps an O_PATH one.
static napi_value set_times(napi_env env, napi_callback_info info) {
  size_t count = 5;
  napi_value arguments[5];
  char path[PROC_BYTES];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (count < 5) return invalid(env);
  struct timespec times[2] = {
      {.tv_sec = (time_t)long_argument(env, arguments[1]), .tv_nsec = long_argument(env, arguments[2])},
      {.tv_sec = (time_t)long_argument(env, arguments[3]), .tv_nsec = long_argument(env, arguments[4])},
  };
  snprintf(path, sizeof path, "/proc/self/fd/%d", int_argument(env, arguments[0]));
  return answer(env, utimensat(AT_FDCWD, path, times, 0));
}

// makeNode(directory, name, mode, device): mknodat(2); the device in the kernel's new_encode_dev form.
static napi_value make_node(napi_env env, napi_callback_info info) {
  size_t count = 4;
  napi_value arguments[4];
  char name[TEXT_BYTES];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (count < 4 || !text_argument(env, arguments[1], name)) return invalid(env);
  uint32_t device = (uint32_t)long_argument(env, arguments[3]);
  dev_t number = makedev((device & 0xfff00) >> 8, (device & 0xff) | ((device >> 12) & 0xfff00));
  mode_t mode = (mode_t)int_argument(env, arguments[2]);
  return answer(env, mknodat(int_argument(env, arguments[0]), name, mode, number));
}

// link(fd, directory, name): another name for the very file that fd refers to.
static napi_value link_descriptor(napi_env env, napi_callback_info info) {
  size_t count = 3;
  napi_value arguments[3];
  char name[TEXT_BYTES], path[PROC_BYTES];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (count < 3 || !text_argument(env, arguments[2], name)) return invalid(env);
  snprintf(path, sizeof path, "/proc/self/fd/%d", int_argument(env, arguments[0]));
  return answer(env, linkat(AT_FDCWD, path, int_argument(env, arguments[1]), name, AT_SYMLINK_FOLLOW));
}

// renameNew(directory, from, to): -EEXIST if there is a `to`.
static napi_value rename_new(napi_env env, napi_callback_info info) {
  size_t count = 3;
  napi_value arguments[3];
  char from[TEXT_BYTES], to[TEXT_BYTES];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (count < 3 || !text_argument(env, arguments[1], from) || !text_argument(env, arguments[2], to)) return invalid(env);
  int fd = int_argument(env, arguments[0]);
  return answer(env, renameat2(fd, from, fd, to, RENAME_NOREPLACE));
}

// syncFileSystem(fd): syncfs(2).
static napi_value sync_file_system(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  return answer(env, syncfs(int_argument(env, argument)));
}

// harden(): no core dumps of this process and those it starts; nobody but root may trace it or read its memory.
static napi_value harden(napi_env env, napi_callback_info info) {
  const struct rlimit none = {0, 0};
  if (setrlimit(RLIMIT_CORE, &none) != 0) return answer(env, -1);
  return answer(env, prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
}

// trimMemory(freeBytes): hand memory that malloc holds free back to the system if that is more. Bytes held free before.
static napi_value trim_memory(napi_env env, napi_callback_info info) {
  size_t count = 1, held = 0;
  napi_value argument, result;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
#if defined __GLIBC__ && __GLIBC_PREREQ(2, 33)
  held = mallinfo2().fordblks;
  if ((int64_t)held > long_argument(env, argument)) malloc_trim(0);
#endif
  napi_create_int64(env, (int64_t)held, &result);
  return result;
}

static size_t page_rounded(size_t length) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  return (length + page - 1) / page * page;
}

static void free_locked(napi_env env, void *bytes, void *hint) {
  explicit_bzero(bytes, (size_t)(uintptr_t)hint);
  munmap(bytes, page_rounded((size_t)(uintptr_t)hint));
}

// lockedBytes(length): an ArrayBuffer of zeros on pages of its own, out of swap (as far as RLIMIT_MEMLOCK allows), dumps and
// forks; wiped when it is collected. Undefined where there is no such memory.
static napi_value locked_bytes(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument, buffer;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  int64_t wanted = long_argument(env, argument);
  if (wanted <= 0 || wanted > TEXT_BYTES) return NULL;
  size_t length = (size_t)wanted, mapped = page_rounded(length);
  void *bytes = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (bytes == MAP_FAILED) return NULL;
  mlock(bytes, mapped);
  madvise(bytes, mapped, MADV_DONTDUMP);
  madvise(bytes, mapped, MADV_WIPEONFORK);
  void *hint = (void *)(uintptr_t)length;
  if (napi_create_external_arraybuffer(env, bytes, length, free_locked, hint, &buffer) == napi_ok) return buffer;
  free_locked(env, bytes, hint);
  return NULL;
}

NAPI_MODULE_INIT() {
  const napi_property_descriptor functions[] = {
      {"setXattr", NULL, set_xattr, NULL, NULL, NULL, napi_enumerable, NULL},
      {"setTimes", NULL, set_times, NULL, NULL, NULL, napi_enumerable, NULL},
      {"makeNode", NULL, make_node, NULL, NULL, NULL, napi_enumerable, NULL},
      {"link", NULL, link_descriptor, NULL, NULL, NULL, napi_enumerable, NULL},
      {"renameNew", NULL, rename_new, NULL, NULL, NULL, napi_enumerable, NULL},
      {"harden", NULL, harden, NULL, NULL, NULL, napi_enumerable, NULL},
      {"lockedBytes", NULL, locked_bytes, NULL, NULL, NULL, napi_enumerable, NULL},
      {"trimMemory", NULL, trim_memory, NULL, NULL, NULL, napi_enumerable, NULL},
      {"syncFileSystem", NULL, sync_file_system, NULL, NULL, NULL, napi_enumerable, NULL},
  };
  napi_define_properties(env, exports, sizeof functions / sizeof *functions, functions);
  return exports;
}
