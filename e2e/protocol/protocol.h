/*
 * How a process of a tree talks to the driver.
 *
 * Reports: one JSON object per packet on an inherited SOCK_SEQPACKET socket. The driver reads the
 * sender's real process id from the packet's SCM_CREDENTIALS, so reports from a nested PID namespace
 * work too.
 *
 * Requests: the process listens on a loopback TCP port. A request is one line. Its words are separated by
 * the ASCII unit separator (0x1f). The reply is one line of JSON. A connection carries any number of
 * requests, and connections are served one after another.
 */
#ifndef E2E_PROTOCOL_H
#define E2E_PROTOCOL_H

#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Sends one report. Never raises SIGPIPE: the disposition is part of what is tested. */
__attribute__((format(printf, 2, 3))) void report(int report_fd, const char *format, ...);

/* A listening socket on 127.0.0.1 (close-on-exec) and its port. If that fails, it ends the program. */
int listen_on_loopback(uint16_t *port);

/* Accepts one connection, and answers its requests until the driver closes it. `answer` gets the words of
 * one request, NULL-terminated, and sends exactly one `reply`. */
typedef void answer_fn(int connection, int count, char **words);
void serve_one(int listener, answer_fn *answer);
__attribute__((format(printf, 2, 3))) void reply(int connection, const char *format, ...);

/* Writes "program: what: strerror(errno)" to stderr and ends the program with status 2. */
__attribute__((noreturn)) void fail(const char *what);

/* The full token PID@STARTTIME@PIDNS of this process (full), or only its process id. */
void own_token(char *text, size_t size, int full);

#ifdef __cplusplus
}
#endif

#endif
