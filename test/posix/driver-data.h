/* The driver's calls on open files and their data; part of driver.c. */

static void do_open(void) { answer(open(text(1), whole(2), (mode_t)whole(3))); }
static void do_close(void) { answer(close(whole(1))); }
static void do_read(void) { answer_data(read(whole(1), buffer, (size_t)number(2))); }
static void do_pread(void) { answer_data(pread(whole(1), buffer, (size_t)number(2), number(3))); }
static void do_write(void) { size_t n = data(2); answer(write(whole(1), buffer, n)); }
static void do_pwrite(void) { size_t n = data(2); answer(pwrite(whole(1), buffer, n, number(3))); }
/* pfill fd byte length offset: one write of many equal bytes */
static void do_pfill(void) {
  memset(buffer, whole(2), (size_t)number(3));
  answer(pwrite(whole(1), buffer, (size_t)number(3), number(4)));
}
static void do_lseek(void) { answer(lseek(whole(1), number(2), whole(3))); }
static void do_truncate(void) { answer(truncate(text(1), number(2))); }
static void do_ftruncate(void) { answer(ftruncate(whole(1), number(2))); }
static void do_fsync(void) { answer(fsync(whole(1))); }
static void do_fdatasync(void) { answer(fdatasync(whole(1))); }
static void do_syncfs(void) { answer(syncfs(whole(1))); }
static void do_fallocate(void) { answer(fallocate(whole(1), whole(2), number(3), number(4))); }
static void do_getfl(void) { answer(fcntl(whole(1), F_GETFL)); }
static void do_setfl(void) { answer(fcntl(whole(1), F_SETFL, whole(2))); }
static void do_clone(void) { answer(ioctl(whole(1), FICLONE, whole(2))); }
static void do_ioctl(void) { answer(ioctl(whole(1), (unsigned long)number(2), buffer)); }
/* copy in offset|- out offset|- length */
static void do_copy(void) {
  off_t from = number(2), to = number(4);
  answer(copy_file_range(whole(1), *text(2) == '-' ? NULL : &from, whole(3), *text(4) == '-' ? NULL : &to, (size_t)number(5), 0));
}
static void do_sendfile(void) { off_t from = number(3); answer(sendfile(whole(1), whole(2), &from, (size_t)number(4))); }
/* splice in out length: file → pipe → file */
static void do_splice(void) {
  int ends[2];
  if (pipe(ends)) { failed(errno); return; }
  ssize_t in = splice(whole(1), NULL, ends[1], NULL, (size_t)number(3), 0);
  ssize_t out = in < 0 ? -1 : splice(ends[0], NULL, whole(2), NULL, (size_t)in, 0);
  int error = errno;
  close(ends[0]); close(ends[1]);
  errno = error;
  answer(out);
}

/* aio_cycle path length count: asynchronous direct writes; answers how many were not what a buffered read then saw */
static void do_aio_cycle(void) {
  aio_context_t context = 0;
  size_t length = (size_t)number(2);
  long long stale = 0;
  int direct = open(text(1), O_RDWR | O_DIRECT | O_CLOEXEC), buffered = open(text(1), O_RDONLY | O_CLOEXEC);
  if (direct < 0 || buffered < 0 || syscall(SYS_io_setup, 1, &context)) { failed(errno); return; }
  for (long long i = 0; i < number(3); i++) {
    struct iocb block = {.aio_lio_opcode = IOCB_CMD_PWRITE, .aio_fildes = (uint32_t)direct, .aio_buf = (uintptr_t)buffer, .aio_nbytes = length};
    struct iocb *blocks[] = {&block};
    struct io_event event;
    memset(buffer, (int)('a' + i % 26), length);
    if (syscall(SYS_io_submit, context, 1, blocks) != 1 || syscall(SYS_io_getevents, context, 1, 1, &event, NULL) != 1) { failed(errno); return; }
    if (event.res != (int64_t)length) { failed(event.res < 0 ? (int)-event.res : EIO); return; }
    unsigned char *copy = buffer + BUFFER_BYTES / 2;
    if (pread(buffered, copy, length, 0) != (ssize_t)length || memcmp(buffer, copy, length)) stale++;
  }
  syscall(SYS_io_destroy, context);
  close(direct); close(buffered);
  answer(stale);
}
/* read_for path length milliseconds: buffered reads of the whole, again and again */
static void do_read_for(void) {
  struct timespec start, now;
  int fd = open(text(1), O_RDONLY | O_CLOEXEC);
  clock_gettime(CLOCK_MONOTONIC, &start);
  do {
    if (pread(fd, buffer, (size_t)number(2), 0) < 0) { failed(errno); return; }
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 < number(3));
  answer(close(fd));
}
