/*
 * A FUSE file system with one file, "log". Like the server of a network file system, it can stop answering.
 *
 *   file_server --report FD --name NAME --mount DIRECTORY
 *
 * SIGUSR1: it stops answering, and reports "hangs". SIGUSR2: it answers again, also the waiting requests, and reports
 * "answers". When it ends, the connection ends, and the waiting requests fail. Run it in a separate mount namespace:
 * the mount then ends with that.
 */
#define _GNU_SOURCE
#include "protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOG = 2, REQUEST_MAX = 1 << 18, WRITE_MAX = 4096 };

static int device;
static size_t size;

static void answer(const struct fuse_in_header *request, int error, const void *data, size_t length) {
    struct {
        struct fuse_out_header header;
        char data[256];
    } packet = {{(uint32_t)(sizeof packet.header + length), error, request->unique}, ""};
    if (length > 0) {
        memcpy(packet.data, data, length);
    }
    /* ENOENT: the process that asked was killed. */
    if (write(device, &packet, packet.header.len) < 0 && errno != ENOENT) {
        fail("/dev/fuse");
    }
}

static struct fuse_attr attributes(uint64_t inode) {
    struct fuse_attr found = {.ino = inode, .nlink = 1, .blksize = WRITE_MAX, .mode = S_IFDIR | 0755};
    if (inode == LOG) {
        found.mode = S_IFREG | 0666;
        found.size = size;
    }
    return found;
}

static void serve_request(const struct fuse_in_header *request) {
    const void *body = request + 1;
    switch (request->opcode) {
    case FUSE_INIT: {
        struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION, .minor = 31, .max_write = WRITE_MAX};
        answer(request, 0, &out, sizeof out);
        break;
    }
    case FUSE_LOOKUP: {
        struct fuse_entry_out out = {.nodeid = LOG, .attr = attributes(LOG)};
        bool is_known = strcmp(body, "log") == 0;
        answer(request, is_known ? 0 : -ENOENT, &out, is_known ? sizeof out : 0);
        break;
    }
    case FUSE_GETATTR:
    case FUSE_SETATTR: {
        struct fuse_attr_out out = {.attr = attributes(request->nodeid)};
        answer(request, 0, &out, sizeof out);
        break;
    }
    case FUSE_OPEN:
    case FUSE_OPENDIR: {
        struct fuse_open_out out = {.open_flags = FOPEN_DIRECT_IO};
        answer(request, 0, &out, sizeof out);
        break;
    }
    case FUSE_WRITE: {
        struct fuse_write_out out = {.size = ((const struct fuse_write_in *)body)->size};
        size += out.size;
        answer(request, 0, &out, sizeof out);
        break;
    }
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
        break;
    case FUSE_FLUSH:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
        answer(request, 0, NULL, 0);
        break;
    default:
        answer(request, -ENOSYS, NULL, 0);
    }
}

static void serve_next(void) {
    static char request[REQUEST_MAX];
    if (read(device, request, sizeof request) > 0) {
        serve_request((const struct fuse_in_header *)request);
    } else if (errno != EINTR && errno != ENOENT) {
        fail("/dev/fuse");
    }
}

int main(int argc, char **argv) {
    enum { REPORT, NAME, MOUNT };
    static const struct option options[] = {{"report", required_argument, NULL, REPORT},
                                            {"name", required_argument, NULL, NAME},
                                            {"mount", required_argument, NULL, MOUNT},
                                            {NULL, 0, NULL, 0}};
    const char *name = "file-server", *directory = NULL;
    int report_fd = -1;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case REPORT:
            report_fd = atoi(optarg);
            break;
        case NAME:
            name = optarg;
            break;
        case MOUNT:
            directory = optarg;
            break;
        default:
            return 2;
        }
    }
    sigset_t asked;
    sigemptyset(&asked);
    sigaddset(&asked, SIGUSR1);
    sigaddset(&asked, SIGUSR2);
    sigprocmask(SIG_BLOCK, &asked, NULL);
    int signals = signalfd(-1, &asked, SFD_CLOEXEC);
    device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    char data[99];
    snprintf(data, sizeof data, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", device);
    if (device < 0 || mount("file_server", directory, "fuse", MS_NOSUID | MS_NODEV, data) < 0) {
        fail("mount");
    }
    report(report_fd, "{\"name\":\"%s\",\"event\":\"ready\",\"pid\":%d}", name, (int)getpid());
    for (bool hangs = false;;) {
        /* The driver has ended, and the tree with it. */
        struct pollfd waits[] = {{signals, POLLIN, 0}, {hangs ? -1 : device, POLLIN, 0}, {report_fd, 0, 0}};
        if (poll(waits, 3, -1) < 0) {
            continue;
        }
        if (waits[2].revents & (POLLHUP | POLLERR)) {
            return 3;
        }
        struct signalfd_siginfo signal;
        if (waits[0].revents && read(signals, &signal, sizeof signal) == sizeof signal) {
            hangs = signal.ssi_signo == SIGUSR1;
            report(report_fd, "{\"name\":\"%s\",\"event\":\"%s\"}", name, hangs ? "hangs" : "answers");
        } else if (waits[1].revents) {
            serve_next();
        }
    }
}
