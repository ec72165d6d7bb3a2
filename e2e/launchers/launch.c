/*
 * Changes its own process step by step, in the order of the command line, and then executes a program. The program
 * keeps the process id, the parent and the start time.
 *
 *   launch [STEP …] -- PROGRAM [ARGUMENT …]
 *
 *   --setsid                   start a new session
 *   --group PGID               join that process group; 0 makes a new one
 *   --close FD                 close a descriptor
 *   --dup2 FROM TO             replace descriptor TO by a copy of FROM
 *   --stderr PATH              open PATH as stderr
 *   --ignore N, --default N    set the disposition of signal number N
 *   --env NAME=VALUE           set a variable; NAME alone removes it
 *   --names-itself token|pid   set LOCALAI_BACKEND_PARENT_PID to this process
 *   --user N                   change to user N and group N only, with the right to read every file: the program or its
 *                              interpreter may lie below a directory that only root may enter
 *   --refuse SYSCALL ERRNO     seccomp: make the system call fail
 *   --forbid SYSCALL           seccomp: make the system call kill the process
 *   --notify SYSCALL FD        seccomp: make the system call wait for an answer; send the listener to the socket FD by
 *                              SCM_RIGHTS
 */
#define _GNU_SOURCE
#include "protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#else
#error "name the audit architecture of this machine"
#endif

static unsigned system_call_number(const char *name) {
    static const struct {
        const char *name;
        unsigned number;
    } calls[] = {
        {"clone", SYS_clone},             {"clone3", SYS_clone3},
        {"close_range", SYS_close_range}, {"listen", SYS_listen},
        {"mincore", SYS_mincore},         {"pidfd_getfd", SYS_pidfd_getfd},
        {"pidfd_open", SYS_pidfd_open},   {"pidfd_send_signal", SYS_pidfd_send_signal},
        {"pwritev2", SYS_pwritev2},       {"setpgid", SYS_setpgid},
        {"unshare", SYS_unshare},
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        if (strcmp(name, calls[i].name) == 0) {
            return calls[i].number;
        }
    }
    errno = EINVAL;
    fail(name);
}

static unsigned error_number(const char *name) {
    if (strcmp(name, "ENOSYS") == 0) {
        return ENOSYS;
    }
    if (strcmp(name, "EPERM") == 0) {
        return EPERM;
    }
    if (strcmp(name, "EMFILE") == 0) {
        return EMFILE;
    }
    if (strcmp(name, "EADDRINUSE") == 0) {
        return EADDRINUSE;
    }
    errno = EINVAL;
    fail(name);
}

/* Installs a filter for one system call. It allows all other calls and all other architectures. */
static int install_filter(unsigned number, unsigned verdict, unsigned flags) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, verdict),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L) < 0) {
        fail("PR_SET_NO_NEW_PRIVS");
    }
    long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
    if (result < 0) {
        fail("seccomp");
    }
    return (int)result;
}

static void send_descriptor(int through, int descriptor) {
    static char text[] = "{\"name\":\"launch\",\"event\":\"listener\"}";
    struct iovec payload = {text, sizeof text - 1};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &payload,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    memset(&control, 0, sizeof control);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    if (sendmsg(through, &message, MSG_NOSIGNAL) < 0) {
        fail("sendmsg");
    }
    close(descriptor);
}

static void set_environment(char *assignment) {
    char *equals = strchr(assignment, '=');
    if (equals == NULL) {
        unsetenv(assignment);
        return;
    }
    *equals = '\0';
    setenv(assignment, equals + 1, 1);
}

static void change_user(unsigned id) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    unsigned right = 1U << CAP_DAC_OVERRIDE;
    struct __user_cap_data_struct rights[_LINUX_CAPABILITY_U32S_3] = {{right, right, right}};
    if (prctl(PR_SET_KEEPCAPS, 1L, 0L, 0L, 0L) < 0 || setgroups(0, NULL) < 0 ||
        setresgid(id, id, id) < 0 || setresuid(id, id, id) < 0 ||
        syscall(SYS_capset, &header, rights) < 0 ||
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, (long)CAP_DAC_OVERRIDE, 0L, 0L) < 0) {
        fail("--user");
    }
}

static char *next(char ***words) {
    char *word = **words;
    if (word == NULL) {
        errno = EINVAL;
        fail("a step lacks its argument");
    }
    (*words)++;
    return word;
}

int main(int argc, char **argv) {
    (void)argc;
    char **words = argv + 1;
    for (;;) {
        const char *step = next(&words);
        if (strcmp(step, "--") == 0) {
            break;
        }
        if (strcmp(step, "--setsid") == 0) {
            if (setsid() < 0) {
                fail("setsid");
            }
        } else if (strcmp(step, "--group") == 0) {
            if (setpgid(0, atoi(next(&words))) < 0) {
                fail("--group");
            }
        } else if (strcmp(step, "--close") == 0) {
            close(atoi(next(&words)));
        } else if (strcmp(step, "--dup2") == 0) {
            int from = atoi(next(&words));
            if (dup2(from, atoi(next(&words))) < 0) {
                fail("dup2");
            }
        } else if (strcmp(step, "--stderr") == 0) {
            int target = open(next(&words), O_WRONLY | O_CLOEXEC);
            if (target < 0 || dup2(target, 2) < 0) {
                fail("--stderr");
            }
        } else if (strcmp(step, "--ignore") == 0) {
            signal(atoi(next(&words)), SIG_IGN);
        } else if (strcmp(step, "--default") == 0) {
            signal(atoi(next(&words)), SIG_DFL);
        } else if (strcmp(step, "--env") == 0) {
            set_environment(next(&words));
        } else if (strcmp(step, "--names-itself") == 0) {
            char token[128];
            own_token(token, sizeof token, strcmp(next(&words), "token") == 0);
            setenv("LOCALAI_BACKEND_PARENT_PID", token, 1);
        } else if (strcmp(step, "--user") == 0) {
            change_user((unsigned)atoi(next(&words)));
        } else if (strcmp(step, "--refuse") == 0) {
            unsigned number = system_call_number(next(&words));
            install_filter(number, SECCOMP_RET_ERRNO | error_number(next(&words)), 0);
        } else if (strcmp(step, "--forbid") == 0) {
            install_filter(system_call_number(next(&words)), SECCOMP_RET_KILL_PROCESS, 0);
        } else if (strcmp(step, "--notify") == 0) {
            unsigned number = system_call_number(next(&words));
            int through = atoi(next(&words));
            send_descriptor(through, install_filter(number, SECCOMP_RET_USER_NOTIF,
                                                    SECCOMP_FILTER_FLAG_NEW_LISTENER));
        } else {
            errno = EINVAL;
            fail(step);
        }
    }
    char **program = words;
    next(&words);
    execvp(*program, program);
    fail(*program);
}
