#define _GNU_SOURCE
#include "protocol.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 16384, WORDS_MAX = 128 };

void fail(const char *what) {
    dprintf(2, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
    _exit(2);
}

static void send_text(int fd, const char *format, va_list arguments, const char *end) {
    char text[4096];
    int length = vsnprintf(text, sizeof text - 1, format, arguments);
    if (length < 0 || (size_t)length >= sizeof text - 1) {
        fail("message too long");
    }
    size_t total = (size_t)length;
    text[total] = *end;
    total += strlen(end);
    while (send(fd, text, total, MSG_NOSIGNAL) < 0 && errno == EINTR) {
    }
}

void report(int report_fd, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    send_text(report_fd, format, arguments, "");
    va_end(arguments);
}

void reply(int connection, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    send_text(connection, format, arguments, "\n");
    va_end(arguments);
}

int listen_on_loopback(uint16_t *port) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0) {
        fail("socket");
    }
    /* Set SO_REUSEADDR last: if both sockets have it, another one can bind the same port until this one listens, and
     * listen first. The accepted connections inherit it, so that the port can be bound again at once. */
    int one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, 16) < 0 ||
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) < 0) {
        fail("listen");
    }
    *port = ntohs(address.sin_port);
    return listener;
}

static void answer_line(int connection, char *line, answer_fn *answer) {
    char *words[WORDS_MAX + 1];
    int count = 0;
    char *rest = line;
    while (rest != NULL && count < WORDS_MAX) {
        words[count++] = strsep(&rest, "\x1f");
    }
    words[count] = NULL;
    answer(connection, count, words);
}

void serve_one(int listener, answer_fn *answer) {
    int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (connection < 0) {
        if (errno == EINTR || errno == ECONNABORTED || errno == EMFILE || errno == EAGAIN) {
            return;
        }
        fail("accept");
    }
    char line[LINE_MAX_BYTES];
    size_t filled = 0;
    for (;;) {
        ssize_t got = recv(connection, line + filled, sizeof line - filled, 0);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            break;
        }
        filled += (size_t)got;
        char *end;
        while ((end = memchr(line, '\n', filled)) != NULL) {
            *end = '\0';
            answer_line(connection, line, answer);
            filled -= (size_t)(end + 1 - line);
            memmove(line, end + 1, filled);
        }
        if (filled == sizeof line) {
            errno = EMSGSIZE;
            fail("request");
        }
    }
    close(connection);
}

void own_token(char *text, size_t size, int full) {
    if (!full) {
        snprintf(text, size, "%d", (int)getpid());
        return;
    }
    char stat_line[1024];
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, stat_line, sizeof stat_line - 1);
    if (got <= 0) {
        fail("/proc/self/stat");
    }
    close(fd);
    stat_line[got] = '\0';
    /* Field 22, counted from the end of the command name, which may contain blanks and parentheses. */
    char *field = strrchr(stat_line, ')');
    for (int number = 2; field != NULL && number < 22; number++) {
        field = strchr(field + 1, ' ');
    }
    struct stat namespace;
    if (field == NULL || stat("/proc/self/ns/pid", &namespace) < 0) {
        fail("/proc/self/ns/pid");
    }
    snprintf(text, size, "%d@%llu@%llu", (int)getpid(), strtoull(field + 1, NULL, 10),
             (unsigned long long)namespace.st_ino);
}
