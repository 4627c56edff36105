// Pins a page of a file that is mapped shared and writable, lets go of mapping and descriptor, and has the kernel write
// into the page when it is told to. What the write waits for is a file of a FUSE server that takes its time.
//
// usage: pin FILE FOLDER direct|vm    (FILE: made, filled with 'A'; FOLDER: empty, the slow server is mounted on it)
// Prints "pinned", waits for a line on standard input, lets the write happen, and prints "written".
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096 };
static struct shared { sem_t asked, go, parted; } *shared;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void reply(int device, uint64_t unique, int error, const void *data, size_t size) {
  char buffer[sizeof(struct fuse_out_header) + PAGE];
  struct fuse_out_header head = {.len = sizeof head + size, .error = error, .unique = unique};
  memcpy(buffer, &head, sizeof head);
  memcpy(buffer + sizeof head, data, size);
  if (write(device, buffer, head.len) < 0 && errno != ENOENT) perror("reply");
}

// One file, "x", of one page of 'E'. Its content is told only once the semaphore says so.
static void serve(int device, int direct) {
  static char request[1 << 20], evil[PAGE];
  memset(evil, 'E', sizeof evil);
  while (read(device, request, sizeof request) > 0 || errno == EINTR || errno == EAGAIN) {
    struct fuse_in_header *in = (void *)request;
    struct fuse_attr folder = {.ino = 1, .mode = 040755, .nlink = 2};
    struct fuse_attr file = {.ino = 2, .mode = 0100644, .nlink = 1, .size = PAGE, .blocks = 8};
    struct fuse_init_out init = {.major = 7, .minor = 31, .max_readahead = PAGE, .max_write = PAGE};
    struct fuse_entry_out entry = {.nodeid = 2, .attr = file, .entry_valid = 100, .attr_valid = 100};
    struct fuse_attr_out attr = {.attr = in->nodeid == 1 ? folder : file, .attr_valid = 100};
    struct fuse_open_out opened = {.open_flags = direct ? FOPEN_DIRECT_IO : 0};
    switch (in->opcode) {
    case FUSE_INIT: reply(device, in->unique, 0, &init, sizeof init); break;
    case FUSE_LOOKUP: reply(device, in->unique, 0, &entry, sizeof entry); break;
    case FUSE_GETATTR: reply(device, in->unique, 0, &attr, sizeof attr); break;
    case FUSE_OPEN: reply(device, in->unique, 0, &opened, sizeof opened); break;
    case FUSE_READ:
      sem_post(&shared->asked);
      sem_wait(&shared->go);
      reply(device, in->unique, 0, evil, sizeof evil);
      break;
    case FUSE_FORGET: case FUSE_BATCH_FORGET: case FUSE_INTERRUPT: break;
    case FUSE_DESTROY: return;
    case FUSE_FLUSH: case FUSE_RELEASE: reply(device, in->unique, 0, "", 0); break;
    default: reply(device, in->unique, -ENOSYS, "", 0);
    }
  }
}

static char *page;
static int slow;

static void *read_into(void *none) {
  if (pread(slow, page, PAGE, 0) != PAGE) perror("the direct read");
  return none;
}

static char *map(int file) {
  char *at = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (at == MAP_FAILED) die("mmap");
  *(volatile char *)at = 'A';
  return at;
}

int main(int count, char **words) {
  if (count != 4) return 2;
  int direct = !strcmp(words[3], "direct");
  shared = mmap(0, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  sem_init(&shared->asked, 1, 0), sem_init(&shared->go, 1, 0), sem_init(&shared->parted, 1, 0);
  int device = open("/dev/fuse", O_RDWR);
  if (device < 0) die("/dev/fuse");
  char text[512];
  snprintf(text, sizeof text, "fd=%d,rootmode=40000,user_id=%d,group_id=%d", device, getuid(), getgid());
  if (mount("slow", words[2], "fuse", MS_NOSUID | MS_NODEV, text)) die("mount");
  pid_t server = fork();
  if (!server) serve(device, direct), _exit(0);
  close(device);
  snprintf(text, sizeof text, "%s/x", words[2]);
  slow = open(text, O_RDONLY);
  if (slow < 0) die(text);

  int file = open(words[1], O_RDWR | O_CREAT | O_EXCL, 0644);
  char content[PAGE];
  memset(content, 'A', PAGE);
  if (file < 0 || write(file, content, PAGE) != PAGE) die(words[1]);
  pthread_t reader;
  pid_t writer = 0;
  if (direct) {
    // The kernel holds the page while it waits for what is to be read into it.
    page = map(file);
    pthread_create(&reader, 0, read_into, 0);
    sem_wait(&shared->asked);
    usleep(100000);
    munmap(page, PAGE);
  } else {
    // Another process writes into our memory, from memory of its own that takes its time.
    page = map(file);
    pid_t target = getpid();
    writer = fork();
    if (!writer) {
      munmap(page, PAGE);
      close(file);
      char *evil = mmap(0, PAGE, PROT_READ, MAP_PRIVATE, slow, 0);
      struct iovec from = {evil, PAGE}, to = {page, PAGE};
      sem_post(&shared->parted);
      if (process_vm_writev(target, &from, 1, &to, 1, 0) != PAGE) perror("process_vm_writev");
      _exit(0);
    }
    sem_wait(&shared->parted);
    sem_wait(&shared->asked);
    usleep(100000);
    munmap(page, PAGE);
  }
  close(file);
  puts("pinned"), fflush(stdout);
  if (!fgets(text, sizeof text, stdin)) text[0] = 0;
  // Once for each page that is asked for.
  for (int n = 0; n < 16; n++) sem_post(&shared->go);
  if (direct) pthread_join(reader, 0);
  else waitpid(writer, 0, 0);
  puts("written"), fflush(stdout);
  close(slow);
  umount2(words[2], MNT_DETACH);
  kill(server, SIGKILL);
  waitpid(server, 0, 0);
  return 0;
}
