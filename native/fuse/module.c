// The FUSE device: mount, poll on Node's loop, read requests, write replies. Handles in, bytes and errno out; no policy.
// Every function answers a value >= 0, or -errno. The kernel's side of it is linux/fuse.h and mount(2).

#include <node_api.h>
#include <uv.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PAGE_BYTES 4096
// Room before the payload of a WRITE (fuse_in_header 40 + fuse_write_in 40): with it in front, the payload is page aligned.
#define WRITE_HEADER_BYTES 80
#define MAX_PIECES 1000  // below IOV_MAX, the reply header included
#define TEXT_BYTES 4096
// A turn of Node's loop serves so many requests, or this long, before timers and the thread pool's results have theirs.
#define TURN_REQUESTS 64
#define TURN_NANOSECONDS 2000000

struct channel {
  napi_env env;
  uv_poll_t poll;
  napi_async_cleanup_hook_handle hook;
  bool open;
  int fd;
  uint64_t spin_nanoseconds;
  uint8_t *request;
  size_t request_bytes;
  uint8_t *reply;
  size_t reply_bytes;
  napi_ref buffers, on_request, on_end;
  struct channel *next;  // all channels of the environment; freed with it, so no function can outlive its channel
};

static napi_value number(napi_env env, int64_t value) {
  napi_value result;
  napi_create_int64(env, value, &result);
  return result;
}

static int32_t int_argument(napi_env env, napi_value value) {
  int32_t result = 0;
  napi_get_value_int32(env, value, &result);
  return result;
}

// Paths and mount data are latin1-decoded byte strings. False when too long or not a string.
static bool text_argument(napi_env env, napi_value value, char text[TEXT_BYTES]) {
  size_t length = 0;
  return napi_get_value_string_latin1(env, value, NULL, 0, &length) == napi_ok && length < TEXT_BYTES &&
         napi_get_value_string_latin1(env, value, text, TEXT_BYTES, &length) == napi_ok && strlen(text) == length;
}

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

// ---- mount and unmount ----

// openDevice(): fd of /dev/fuse, not inherited by children.
static napi_value open_device(napi_env env, napi_callback_info info) {
  int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  return number(env, fd < 0 ? -errno : fd);
}

static napi_value close_descriptor(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  return number(env, close(int_argument(env, argument)) < 0 ? -errno : 0);
}

// mount(source, target, type, flags, data): mount(2).
static napi_value mount_direct(napi_env env, napi_callback_info info) {
  size_t count = 5;
  napi_value arguments[5];
  char source[TEXT_BYTES], target[TEXT_BYTES], type[TEXT_BYTES], data[TEXT_BYTES];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (count < 5 || !text_argument(env, arguments[0], source) || !text_argument(env, arguments[1], target) ||
      !text_argument(env, arguments[2], type) || !text_argument(env, arguments[4], data))
    return number(env, -EINVAL);
  unsigned long flags = (unsigned long)int_argument(env, arguments[3]);
  return number(env, mount(source, target, type, flags, data) < 0 ? -errno : 0);
}

// Calls that may wait for the very filesystem this process serves run on libuv's pool, never on the loop.
struct work {
  napi_async_work task;
  napi_deferred deferred;
  int result;
  enum { UNMOUNT, NOTIFY } kind;
  int number;  // umount2 flags, or the device
  size_t length;
  uint8_t bytes[];  // target path, or the notification
};

static void work_execute(napi_env env, void *data) {
  struct work *work = data;
  if (work->kind == UNMOUNT) {
    work->result = umount2((const char *)work->bytes, work->number) < 0 ? -errno : 0;
  } else {
    work->result = write(work->number, work->bytes, work->length) < 0 ? -errno : 0;
    close(work->number);
  }
}

static void work_complete(napi_env env, napi_status status, void *data) {
  struct work *work = data;
  napi_value result;
  napi_handle_scope scope;
  if (napi_open_handle_scope(env, &scope) == napi_ok) {
    napi_create_int32(env, status == napi_ok ? work->result : -ECANCELED, &result);
    napi_resolve_deferred(env, work->deferred, result);
    napi_close_handle_scope(env, scope);
  }
  if (status != napi_ok && work->kind == NOTIFY) close(work->number);
  napi_delete_async_work(env, work->task);
  free(work);
}

// A promise of 0 or -errno.
static napi_value work_queue(napi_env env, int kind, int number, const void *bytes, size_t length) {
  struct work *work = calloc(1, sizeof *work + length + 1);
  napi_value promise, name;
  if (!work) {
    napi_throw_error(env, "ENOMEM", "out of memory");
    return NULL;
  }
  *work = (struct work){.kind = kind, .number = number, .length = length};
  memcpy(work->bytes, bytes, length);
  napi_create_promise(env, &work->deferred, &promise);
  napi_create_string_utf8(env, "tcfs_fuse", NAPI_AUTO_LENGTH, &name);
  napi_create_async_work(env, NULL, name, work_execute, work_complete, work, &work->task);
  napi_queue_async_work(env, work->task);
  return promise;
}

// unmount(target, flags): promise of umount2(2).
static napi_value unmount(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  char target[TEXT_BYTES];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (!text_argument(env, arguments[0], target)) target[0] = 0;  // answered with ENOENT
  return work_queue(env, UNMOUNT, int_argument(env, arguments[1]), target, strlen(target));
}

// socketPair(): [ours, theirs]; ours is not inherited.
static napi_value socket_pair(napi_env env, napi_callback_info info) {
  int ends[2];
  napi_value result;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) return number(env, -errno);
  napi_create_array_with_length(env, 2, &result);
  napi_set_element(env, result, 0, number(env, ends[0]));
  napi_set_element(env, result, 1, number(env, ends[1]));
  return result;
}

// receiveDescriptor(socket): the descriptor that lies in the socket; never waits.
static napi_value receive_descriptor(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  char byte;
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
  } control = {0};
  struct iovec piece = {&byte, 1};
  struct msghdr message = {
      .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  ssize_t length = recvmsg(int_argument(env, argument), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (length < 0) return number(env, -errno);
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (length == 0 || !header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
      header->cmsg_len < CMSG_LEN(sizeof(int)))
    return number(env, -EBADMSG);
  int fd;
  memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return number(env, fd);
}

// ---- the channel ----

static void channel_closed(uv_handle_t *handle) {
  struct channel *channel = handle->data;
  napi_delete_reference(channel->env, channel->buffers);
  napi_delete_reference(channel->env, channel->on_request);
  napi_delete_reference(channel->env, channel->on_end);
  napi_remove_async_cleanup_hook(channel->hook);
}

static void channel_close(struct channel *channel) {
  if (!channel->open) return;
  channel->open = false;
  uv_close((uv_handle_t *)&channel->poll, channel_closed);
  close(channel->fd);
}

static void channel_cleanup(napi_async_cleanup_hook_handle hook, void *data) {
  struct channel *channel = data;
  // Closed already: channel_closed, still to come, removes the hook.
  channel_close(channel);
}

// One turn of JavaScript with its microtasks. The callbacks handle their own errors; what escapes is fatal.
static void call_back(struct channel *channel, napi_ref function, int32_t argument) {
  napi_env env = channel->env;
  napi_handle_scope scope;
  napi_value receiver, callee, value, result, error;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  napi_get_reference_value(env, function, &callee);
  napi_get_global(env, &receiver);
  napi_create_int32(env, argument, &value);
  if (napi_make_callback(env, NULL, receiver, callee, 1, &value, &result) == napi_pending_exception) {
    napi_get_and_clear_last_exception(env, &error);
    napi_fatal_exception(env, error);
  }
  napi_close_handle_scope(env, scope);
}

static void channel_readable(uv_poll_t *poll, int status, int events) {
  struct channel *channel = poll->data;
  uint64_t started = now(), idle_since = 0;
  int served = 0;
  while (channel->open) {
    ssize_t length = read(channel->fd, channel->request, channel->request_bytes);
    if (length >= 0) {
      idle_since = 0;
      call_back(channel, channel->on_request, (int32_t)length);
      if (++served >= TURN_REQUESTS || now() - started > TURN_NANOSECONDS) return;
    } else if (errno == EAGAIN) {
      if (channel->spin_nanoseconds == 0 || served == 0) return;
      uint64_t time = now();
      if (idle_since == 0) idle_since = time;
      if (time - idle_since >= channel->spin_nanoseconds) return;
    } else if (errno != EINTR && errno != ENOENT) {  // ENOENT: the request was interrupted while being read
      int error = errno;
      uv_poll_stop(&channel->poll);
      call_back(channel, channel->on_end, error);
      return;
    }
  }
}

// write(lengthBytes, pieces?): the first bytes of the reply buffer, then the pieces, in one writev.
static napi_value channel_write(napi_env env, napi_callback_info info) {
  size_t count = 2, total;
  napi_value arguments[2];
  struct channel *channel;
  struct iovec pieces[MAX_PIECES + 1];
  uint32_t length = 0, used = 0;
  napi_valuetype type = napi_undefined;
  napi_get_cb_info(env, info, &count, arguments, NULL, (void **)&channel);
  if (!channel->open) return number(env, -ENOTCONN);
  napi_get_value_uint32(env, arguments[0], &length);
  if (length > channel->reply_bytes) return number(env, -EINVAL);
  pieces[0] = (struct iovec){channel->reply, length};
  if (count > 1) napi_typeof(env, arguments[1], &type);
  if (type == napi_object) {
    if (napi_get_array_length(env, arguments[1], &used) != napi_ok || used > MAX_PIECES) return number(env, -EINVAL);
    for (uint32_t i = 0; i < used; i++) {
      napi_value element;
      if (napi_get_element(env, arguments[1], i, &element) != napi_ok ||
          napi_get_typedarray_info(env, element, NULL, &total, &pieces[i + 1].iov_base, NULL, NULL) != napi_ok)
        return number(env, -EINVAL);
      pieces[i + 1].iov_len = total;
    }
  }
  ssize_t written;
  do written = writev(channel->fd, pieces, (int)used + 1);
  while (written < 0 && errno == EINTR);
  return number(env, written < 0 ? -errno : 0);
}

// notify(message): promise; off the loop, for the kernel may wait there for pages that only this process can serve.
static napi_value channel_notify(napi_env env, napi_callback_info info) {
  size_t count = 1, length = 0;
  napi_value argument;
  struct channel *channel;
  void *bytes = NULL;
  napi_get_cb_info(env, info, &count, &argument, NULL, (void **)&channel);
  napi_get_typedarray_info(env, argument, NULL, &length, &bytes, NULL, NULL);
  int fd = channel->open ? fcntl(channel->fd, F_DUPFD_CLOEXEC, 0) : -1;
  return work_queue(env, NOTIFY, fd, bytes, length);
}

static napi_value channel_stop(napi_env env, napi_callback_info info) {
  struct channel *channel;
  napi_get_cb_info(env, info, NULL, NULL, NULL, (void **)&channel);
  channel_close(channel);
  return NULL;
}

// A Uint8Array of `length` bytes whose byte WRITE_HEADER_BYTES lies on a page boundary. NULL after a JavaScript exception.
static napi_value aligned_bytes(napi_env env, size_t length, uint8_t **bytes) {
  napi_value buffer, view;
  void *memory;
  if (napi_create_arraybuffer(env, length + 2 * PAGE_BYTES, &memory, &buffer) != napi_ok) return NULL;
  size_t offset = 2 * PAGE_BYTES - WRITE_HEADER_BYTES - (uintptr_t)memory % PAGE_BYTES;
  if (napi_create_typedarray(env, napi_uint8_array, length, buffer, offset, &view) != napi_ok) return NULL;
  *bytes = (uint8_t *)memory + offset;
  return view;
}

static bool channel_open(struct channel *channel, napi_value request, napi_value reply, napi_value *arguments) {
  napi_env env = channel->env;
  napi_value pair;
  uv_loop_t *loop;
  int flags = fcntl(channel->fd, F_GETFL);
  if (flags < 0 || fcntl(channel->fd, F_SETFL, flags | O_NONBLOCK) < 0) return false;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok || uv_poll_init(loop, &channel->poll, channel->fd) != 0) return false;
  channel->poll.data = channel;
  channel->open = true;
  napi_create_array_with_length(env, 2, &pair);
  napi_set_element(env, pair, 0, request);
  napi_set_element(env, pair, 1, reply);
  napi_create_reference(env, pair, 1, &channel->buffers);
  napi_create_reference(env, arguments[4], 1, &channel->on_request);
  napi_create_reference(env, arguments[5], 1, &channel->on_end);
  napi_add_async_cleanup_hook(env, channel_cleanup, channel, &channel->hook);
  return uv_poll_start(&channel->poll, UV_READABLE, channel_readable) == 0;
}

// openChannel(fd, requestBytes, replyBytes, spinMicroseconds, onRequest(lengthBytes), onEnd(errno))
// answers { request, reply, write, notify, stop } and owns fd from then on; or undefined if fd cannot be polled.
static napi_value open_channel(napi_env env, napi_callback_info info) {
  size_t count = 6;
  napi_value arguments[6], result, request, reply, function;
  struct channel *channel, **all;
  napi_get_cb_info(env, info, &count, arguments, NULL, (void **)&all);
  if (count < 6 || !(channel = calloc(1, sizeof *channel))) return NULL;
  channel->env = env;
  channel->next = *all;
  *all = channel;
  channel->fd = int_argument(env, arguments[0]);
  channel->request_bytes = (size_t)int_argument(env, arguments[1]);
  channel->reply_bytes = (size_t)int_argument(env, arguments[2]);
  channel->spin_nanoseconds = (uint64_t)int_argument(env, arguments[3]) * 1000;
  if (!(request = aligned_bytes(env, channel->request_bytes, &channel->request)) ||
      !(reply = aligned_bytes(env, channel->reply_bytes, &channel->reply)) ||
      !channel_open(channel, request, reply, arguments))
    return NULL;
  napi_create_object(env, &result);
  napi_set_named_property(env, result, "request", request);
  napi_set_named_property(env, result, "reply", reply);
  napi_create_function(env, "write", NAPI_AUTO_LENGTH, channel_write, channel, &function);
  napi_set_named_property(env, result, "write", function);
  napi_create_function(env, "notify", NAPI_AUTO_LENGTH, channel_notify, channel, &function);
  napi_set_named_property(env, result, "notify", function);
  napi_create_function(env, "stop", NAPI_AUTO_LENGTH, channel_stop, channel, &function);
  napi_set_named_property(env, result, "stop", function);
  return result;
}

static void free_channels(napi_env env, void *data, void *hint) {
  struct channel **all = data;
  for (struct channel *channel = *all, *next; channel; channel = next) {
    next = channel->next;
    free(channel);
  }
  free(all);
}

NAPI_MODULE_INIT() {
  struct channel **all = calloc(1, sizeof *all);
  if (!all) return NULL;
  napi_set_instance_data(env, all, free_channels, NULL);
  const napi_property_descriptor properties[] = {
      {"openDevice", NULL, open_device, NULL, NULL, NULL, napi_enumerable, NULL},
      {"closeDescriptor", NULL, close_descriptor, NULL, NULL, NULL, napi_enumerable, NULL},
      {"mount", NULL, mount_direct, NULL, NULL, NULL, napi_enumerable, NULL},
      {"unmount", NULL, unmount, NULL, NULL, NULL, napi_enumerable, NULL},
      {"socketPair", NULL, socket_pair, NULL, NULL, NULL, napi_enumerable, NULL},
      {"receiveDescriptor", NULL, receive_descriptor, NULL, NULL, NULL, napi_enumerable, NULL},
      {"openChannel", NULL, open_channel, NULL, NULL, NULL, napi_enumerable, all},
  };
  napi_define_properties(env, exports, sizeof properties / sizeof *properties, properties);
  return exports;
}
