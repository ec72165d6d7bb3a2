/* Process trees on Windows or under Wine: which processes end when a supervisor ends, and which live on.
 *
 *   scenarios.exe              runs all scenarios; the status is 1 if one fails
 *   scenarios.exe NAME...      runs these scenarios
 *
 * All processes of a tree run this program. It starts itself again with a role, such as `scenarios.exe worker`.
 * PW_WORDS has the words that make up a scenario, and every role reads them. The processes report in shared memory.
 * `localai-parentwatch.exe` and `localai_parentwatch.dll` must lie in the folder of this program.
 */
#include <windows.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <localai_parentwatch.h>

/* How long a process may take to start or to end, in ms. Only a failing scenario waits that long. */
#define DEADLINE 20000
/* How long a process that must live is observed, in ms. */
#define LOOK 400
/* How long a process of a tree lives at most, in ms, whatever happens. */
#define LIFE 60000

enum role { SUPERVISOR, WRAPPER, EXEC, WORKER, HELPER, GRANDCHILD, NEIGHBOUR, SIBLING, LAUNCHER, ROLES };
static const char *const names[ROLES] = {"supervisor", "wrapper", "exec", "worker", "helper", "grandchild", "neighbour",
                                         "sibling",    "launcher"};

struct report {
    volatile LONG pid;
    /* The result of starting the watcher. */
    volatile LONG status, tier, scope, watched[2];
};

struct shared {
    struct report by[ROLES];
    volatile LONG may_arm, may_end[ROLES], hook_ran;
};

static struct shared *shared;

static int has_word(const char *words, const char *word) {
    char padded[512], looked_for[64];
    snprintf(padded, sizeof padded, " %s ", words);
    snprintf(looked_for, sizeof looked_for, " %s ", word);
    return strstr(padded, looked_for) != NULL;
}

static int has(const char *word) {
    const char *words = getenv("PW_WORDS");
    return words && has_word(words, word);
}

static char *own_path(void) {
    static char path[MAX_PATH];
    GetModuleFileNameA(NULL, path, sizeof path);
    return path;
}

/* The path of a program in the folder of this one. */
static const char *beside(const char *name) {
    static char path[2 * MAX_PATH];
    snprintf(path, sizeof path, "%s", own_path());
    char *last = strrchr(path, '\\');
    snprintf(last ? last + 1 : path, MAX_PATH, "%s", name);
    return path;
}

/* Starts a program. `job` and `stderr_handle` may be NULL. */
static HANDLE start(const char *line, HANDLE job, HANDLE stderr_handle) {
    char copy[4 * MAX_PATH];
    snprintf(copy, sizeof copy, "%s", line);
    STARTUPINFOA how = {.cb = sizeof how};
    if (stderr_handle) {
        how.dwFlags = STARTF_USESTDHANDLES;
        how.hStdInput = GetStdHandle(STD_INPUT_HANDLE);
        how.hStdOutput = GetStdHandle(STD_OUTPUT_HANDLE);
        how.hStdError = stderr_handle;
    }
    PROCESS_INFORMATION made;
    if (!CreateProcessA(NULL, copy, NULL, NULL, TRUE, job ? CREATE_SUSPENDED : 0, NULL, NULL, &how, &made)) {
        printf("cannot start %s: %lu\n", line, GetLastError());
        exit(3);
    }
    if (job) {
        AssignProcessToJobObject(job, made.hProcess);
        ResumeThread(made.hThread);
    }
    CloseHandle(made.hThread);
    return made.hProcess;
}

static void start_role(enum role role) {
    char line[2 * MAX_PATH];
    snprintf(line, sizeof line, "\"%s\" %s", own_path(), names[role]);
    CloseHandle(start(line, NULL, NULL));
}

static DWORD CALLBACK do_nothing(void *unused) {
    (void)unused;
    return 0;
}

/* Starts processes until one gets this id, which must be free or become free soon. That process stays suspended.
 * Returns NULL if none gets it. */
static HANDLE start_with_id(DWORD id, HANDLE job) {
    char line[2 * MAX_PATH];
    snprintf(line, sizeof line, "\"%s\"", own_path());
    for (int started = 0; started < 1000; started++) {
        STARTUPINFOA how = {.cb = sizeof how};
        PROCESS_INFORMATION made;
        if (!CreateProcessA(NULL, line, NULL, NULL, FALSE, CREATE_SUSPENDED, NULL, NULL, &how, &made)) {
            return NULL;
        }
        if (job) {
            AssignProcessToJobObject(job, made.hProcess);
        }
        CloseHandle(made.hThread);
        if (made.dwProcessId == id) {
            return made.hProcess;
        }
        TerminateProcess(made.hProcess, 0);
        WaitForSingleObject(made.hProcess, DEADLINE);
        CloseHandle(made.hProcess);
        /* Threads get ids from the same set. An extra thread now and then shifts which ids the processes get. */
        if (started % 61 == 0) {
            CloseHandle(CreateThread(NULL, 0, do_nothing, NULL, 0, NULL));
        }
    }
    return NULL;
}

/* ------------------------------------------------------------------------------------------------ the roles */

static void CALLBACK hook(void *ran) {
    InterlockedIncrement(ran);
    if (has("hook-hangs")) {
        Sleep(INFINITE);
    }
    if (has("hook-exits")) {
        ExitProcess(9);
    }
}

static void call_hook(void *ran) { hook(ran); }

/* Names this process, or another one, as the supervisor in the environment of its children. */
static void name_supervisor(void) {
    char entry[128], *token = entry + strlen("LOCALAI_BACKEND_PARENT_PID=");
    localai_parentwatch_child_env(entry, sizeof entry);
    if (has("number")) {
        token[strcspn(token, "@")] = 0;
    }
    if (has("other-time")) {
        /* Changes the last digit of the creation time. */
        char *digit = strrchr(token, '@') - 1;
        *digit = *digit == '0' ? '1' : '0';
    }
    if (has("linux-token")) {
        strcpy(strrchr(token, '@'), "@4026531836");
    }
    if (has("token") || has("number") || has("other-time") || has("linux-token")) {
        SetEnvironmentVariableA("LOCALAI_BACKEND_PARENT_PID", token);
    }
}

static void be_supervisor(void) {
    name_supervisor();
    if (has("neighbour")) {
        start_role(NEIGHBOUR);
    }
    if (has("sibling")) {
        start_role(SIBLING);
    }
    if (has("launcher")) {
        start_role(LAUNCHER);
    }
    if (has("exec")) {
        char line[4 * MAX_PATH];
        snprintf(line, sizeof line, "\"%s\" exec %s-- \"%s\" worker", beside("localai-parentwatch.exe"),
                 has("scope-process") ? "--scope process " : "", own_path());
        HANDLE program = start(line, NULL, NULL);
        shared->by[EXEC].pid = (LONG)GetProcessId(program);
    } else {
        start_role(has("wrapper") ? WRAPPER : WORKER);
    }
}

static void arm(struct report *report) {
    localai_parentwatch_options_t options = {.size = sizeof options};
    if (has("hook")) {
        options.on_death = call_hook;
        options.user_data = (void *)&shared->hook_ran;
    }
    if (has("short-grace")) {
        options.grace_ns = 200000000;
    }
    if (has("scope-process")) {
        options.scope = LOCALAI_PARENTWATCH_SCOPE_PROCESS;
    }
    report->status = has("hook") || has("short-grace") || has("scope-process") ? localai_parentwatch_start(&options)
                                                                                 : start_parent_death_watcher();
    localai_parentwatch_info_t info = {.size = sizeof info};
    localai_parentwatch_status(&info);
    report->tier = info.tier;
    report->scope = info.scope;
    report->watched[0] = info.watched_pids[0];
    report->watched[1] = info.watched_pids[1];
}

/* Fills the pipe on stderr, which no process reads. The thread then hangs. */
static DWORD CALLBACK fill_stderr(void *unused) {
    static char bytes[1 << 16];
    DWORD written;
    while (WriteFile(GetStdHandle(STD_ERROR_HANDLE), bytes, sizeof bytes, &written, NULL)) {
    }
    (void)unused;
    return 0;
}

static void wait_for(enum role role) {
    while (!shared->by[role].pid) {
        Sleep(2);
    }
}

static void be_worker(struct report *report) {
    if (has("helpers")) {
        start_role(HELPER);
        wait_for(GRANDCHILD);
    }
    if (has("launcher")) {
        /* The neighbour's parent has ended. Starts a helper that reuses its id. */
        wait_for(NEIGHBOUR);
        HANDLE helper = start_with_id((DWORD)shared->by[LAUNCHER].pid, NULL);
        shared->by[HELPER].pid = helper ? (LONG)GetProcessId(helper) : -1;
    }
    if (has("late")) {
        report->pid = (LONG)GetCurrentProcessId();
        while (!shared->may_arm) {
            Sleep(2);
        }
    }
    if (has("full-pipe")) {
        CloseHandle(CreateThread(NULL, 0, fill_stderr, NULL, 0, NULL));
    }
    if (has("waits")) {
        wait_for(SUPERVISOR);
        int32_t parent = shared->by[SUPERVISOR].pid;
        report->pid = (LONG)GetCurrentProcessId();
        int died_before = localai_parentwatch_parent_died(parent);
        int status = localai_parentwatch_wait_for_exit(parent, 3600000000000);
        ExitProcess(!died_before && status == 0 && localai_parentwatch_parent_died(parent) ? 11 : 12);
    }
    if (!has("plain")) {
        arm(report);
    }
    if (has("late")) {
        report->watched[1] = -1;
    }
}

static int be(enum role role) {
    struct report *report = &shared->by[role];
    report->status = -1000;
    if (role == SUPERVISOR) {
        be_supervisor();
    } else if (role == WRAPPER) {
        start_role(WORKER);
    } else if (role == WORKER) {
        be_worker(report);
    } else if (role == HELPER) {
        start_role(GRANDCHILD);
    } else if (role == LAUNCHER) {
        report->pid = (LONG)GetCurrentProcessId();
        start_role(NEIGHBOUR);
        return 0;
    }
    InterlockedExchange(&report->pid, (LONG)GetCurrentProcessId());
    for (int slept = 0; slept < LIFE && !shared->may_end[role]; slept += 2) {
        Sleep(2);
    }
    return role == WORKER ? 7 : 0;
}

/* -------------------------------------------------------------------------------------------- the scenarios */

enum { OK, FAILED, SKIPPED };
static jmp_buf failed;
static HANDLE mapping, job, processes[ROLES], stderr_end;
static char stderr_path[MAX_PATH];

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("FAILED (");
    vprintf(format, arguments);
    printf(")\n");
    va_end(arguments);
    longjmp(failed, FAILED);
}

static const char *stderr_text(void) {
    static char text[4096];
    HANDLE file = CreateFileA(stderr_path, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL,
                              OPEN_EXISTING, 0, NULL);
    DWORD length = 0;
    ReadFile(file, text, sizeof text - 1, &length, NULL);
    text[length] = 0;
    CloseHandle(file);
    return text;
}

/* Starts the supervisor of a tree. `watch` is the value of LOCALAI_BACKEND_PARENT_WATCH; NULL leaves that unset. */
static void tree_with(const char *words, const char *watch) {
    static int number;
    char name[64];
    snprintf(name, sizeof name, "Local\\pw-%lu-%d", GetCurrentProcessId(), ++number);
    mapping = CreateFileMappingA(INVALID_HANDLE_VALUE, NULL, PAGE_READWRITE, 0, sizeof(struct shared), name);
    shared = MapViewOfFile(mapping, FILE_MAP_ALL_ACCESS, 0, 0, 0);
    SetEnvironmentVariableA("PW_SHARED", name);
    SetEnvironmentVariableA("PW_WORDS", words);
    SetEnvironmentVariableA("LOCALAI_BACKEND_PARENT_WATCH", watch);
    SetEnvironmentVariableA("LOCALAI_BACKEND_PARENT_PID", NULL);

    char folder[MAX_PATH];
    GetTempPathA(sizeof folder, folder);
    GetTempFileNameA(folder, "pw", 0, stderr_path);
    SECURITY_ATTRIBUTES inherited = {sizeof inherited, NULL, TRUE};
    HANDLE stderr_handle;
    if (strstr(words, "full-pipe")) {
        CreatePipe(&stderr_end, &stderr_handle, &inherited, 0);
        SetHandleInformation(stderr_end, HANDLE_FLAG_INHERIT, 0);
    } else {
        stderr_handle = CreateFileA(stderr_path, FILE_APPEND_DATA, FILE_SHARE_READ | FILE_SHARE_WRITE, &inherited,
                                    CREATE_ALWAYS, 0, NULL);
    }
    /* The job ends the whole tree, however the scenario ends. */
    job = CreateJobObjectA(NULL, NULL);
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits = {.BasicLimitInformation.LimitFlags =
                                                       JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE};
    SetInformationJobObject(job, JobObjectExtendedLimitInformation, &limits, sizeof limits);
    char line[2 * MAX_PATH];
    snprintf(line, sizeof line, "\"%s\" supervisor", own_path());
    processes[SUPERVISOR] = start(line, job, stderr_handle);
    CloseHandle(stderr_handle);
}

static void tree(const char *words) { tree_with(words, "true"); }

static void end_tree(void) {
    if (!job) {
        return;
    }
    TerminateJobObject(job, 2);
    CloseHandle(job);
    job = NULL;
    for (int role = 0; role < ROLES; role++) {
        if (processes[role]) {
            WaitForSingleObject(processes[role], DEADLINE);
            CloseHandle(processes[role]);
            processes[role] = NULL;
        }
    }
    if (stderr_end) {
        CloseHandle(stderr_end);
        stderr_end = NULL;
    }
    UnmapViewOfFile(shared);
    CloseHandle(mapping);
    DeleteFileA(stderr_path);
}

/* Waits until the process has reported its pid, and opens a handle on it. */
static void up(enum role role) {
    for (ULONGLONG until = GetTickCount64() + DEADLINE; !shared->by[role].pid; Sleep(2)) {
        if (GetTickCount64() > until) {
            fail("the %s does not come up: %s", names[role], stderr_text());
        }
    }
    if (!processes[role]) {
        processes[role] = OpenProcess(SYNCHRONIZE | PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_TERMINATE, FALSE,
                                      (DWORD)shared->by[role].pid);
    }
    if (!processes[role]) {
        fail("the %s has ended early: %s", names[role], stderr_text());
    }
}

static void lives(enum role role) {
    if (WaitForSingleObject(processes[role], LOOK) == WAIT_OBJECT_0) {
        fail("the %s has ended: %s", names[role], stderr_text());
    }
}

/* For a process that ends with its job: the system chooses its exit status. */
#define ANY 0xffffffff

static void ends(enum role role, DWORD expected) {
    if (WaitForSingleObject(processes[role], DEADLINE) != WAIT_OBJECT_0) {
        fail("the %s lives on", names[role]);
    }
    DWORD status;
    GetExitCodeProcess(processes[role], &status);
    if (status != expected && expected != ANY) {
        fail("the %s has the exit status %lu and not %lu: %s", names[role], status, expected, stderr_text());
    }
}

static void terminate(enum role role) { TerminateProcess(processes[role], 3); }

static void let_end(enum role role) { shared->may_end[role] = 1; }

static void status_is(LONG expected) {
    LONG status = shared->by[WORKER].status;
    if (status != expected) {
        fail("the worker says %s and not %s: %s", localai_parentwatch_status_text(status),
             localai_parentwatch_status_text(expected), stderr_text());
    }
}

static void is_watched(enum role parent, int supervisor) {
    struct report *worker = &shared->by[WORKER];
    LONG expected[2] = {shared->by[parent].pid, supervisor ? shared->by[SUPERVISOR].pid : 0};
    status_is(LOCALAI_PARENTWATCH_ARMED);
    if (worker->tier != LOCALAI_PARENTWATCH_TIER_EVENT) {
        fail("the tier is %ld", worker->tier);
    }
    if (worker->watched[0] != expected[0] || worker->watched[1] != expected[1]) {
        fail("%ld and %ld are watched, not %ld and %ld", worker->watched[0], worker->watched[1], expected[0],
             expected[1]);
    }
}

/* Checks the last line on stderr. Unless `warns`, it must be the only one. */
static void says(const char *who, enum role gone, enum role worker, const char *how, int warns) {
    char expected[256];
    snprintf(expected, sizeof expected, "localai-parentwatch: %s %ld is gone, worker %ld exits (%s)\n", who,
             shared->by[gone].pid, shared->by[worker].pid, how);
    const char *text = stderr_text(), *line = strstr(text, expected);
    if (!line || (!warns && line != text) || strlen(line) != strlen(expected)) {
        fail("expected %sgot %s", expected, *text ? text : "nothing");
    }
}

static void up_with_helpers(void) {
    up(GRANDCHILD);
    up(HELPER);
    up(WORKER);
}

static void supervisor_terminated(void) {
    tree("");
    up(WORKER);
    is_watched(SUPERVISOR, 0);
    lives(WORKER);
    terminate(SUPERVISOR);
    ends(WORKER, 1);
    says("parent", SUPERVISOR, WORKER, "event", 0);
}

static void supervisor_ended(void) {
    tree("token");
    up(WORKER);
    is_watched(SUPERVISOR, 0);
    up(SUPERVISOR);
    let_end(SUPERVISOR);
    ends(SUPERVISOR, 0);
    ends(WORKER, 1);
    says("supervisor", SUPERVISOR, WORKER, "event", 0);
}

/* Starts an unrelated process that reuses the id of this process, which has ended. */
static void reuse_id(enum role role) {
    CloseHandle(processes[role]);
    processes[role] = start_with_id((DWORD)shared->by[role].pid, job);
    if (!processes[role]) {
        longjmp(failed, SKIPPED);
    }
}

/* The worker arms after its supervisor's death. Token or process id prove that death, and our parent is gone. */
static void dies_when_it_arms(const char *words, int warns) {
    tree(words);
    up(WORKER);
    terminate(SUPERVISOR);
    ends(SUPERVISOR, 3);
    lives(WORKER);
    if (has_word(words, "reused")) {
        reuse_id(SUPERVISOR);
    }
    shared->may_arm = 1;
    ends(WORKER, 1);
    says("supervisor", SUPERVISOR, WORKER, "arming", warns);
}

static void dead_before_arming(void) { dies_when_it_arms("late token", 0); }
static void dead_before_arming_by_number(void) { dies_when_it_arms("late number", 0); }

static void lives_when_it_arms(const char *words) {
    tree(words);
    up(WORKER);
    terminate(SUPERVISOR);
    ends(SUPERVISOR, 3);
    if (has_word(words, "reused")) {
        reuse_id(SUPERVISOR);
    }
    shared->may_arm = 1;
    for (ULONGLONG until = GetTickCount64() + DEADLINE; !shared->by[WORKER].watched[1]; Sleep(2)) {
        if (GetTickCount64() > until) {
            fail("the worker does not arm");
        }
    }
    lives(WORKER);
    status_is(LOCALAI_PARENTWATCH_NO_PARENT);
}

/* Another process has the supervisor's id, but another creation time. */
static void dead_before_arming_number_reused(void) { dies_when_it_arms("late token reused", 0); }

/* A plain process id, without a creation time, may mean the process that has that id now. */
static void number_of_another_process(void) { lives_when_it_arms("late number reused"); }

/* The process that has the parent's id was created after the worker. */
static void parent_gone_number_reused(void) { lives_when_it_arms("late reused"); }

/* Without a named supervisor, the parent that is gone may have been only a launcher. */
static void parent_gone_no_supervisor_named(void) { lives_when_it_arms("late"); }

/* A token from Linux proves nothing here. */
static void token_of_linux(void) { lives_when_it_arms("late linux-token"); }

/* The parent lives and has that id, so the supervisor is not dead. */
static void token_with_another_creation_time(void) {
    tree("other-time");
    up(WORKER);
    is_watched(SUPERVISOR, 0);
    if (!strstr(stderr_text(), "started at another time")) {
        fail("no warning: %s", stderr_text());
    }
    lives(WORKER);
    terminate(SUPERVISOR);
    ends(WORKER, 1);
    says("supervisor", SUPERVISOR, WORKER, "event", 1);
}

static void supervisor_behind_a_wrapper(void) {
    tree("token wrapper");
    up(WRAPPER);
    up(WORKER);
    is_watched(WRAPPER, 1);
    terminate(SUPERVISOR);
    ends(WORKER, 1);
    lives(WRAPPER);
    says("supervisor", SUPERVISOR, WORKER, "event", 0);
}

static void wrapper_ended(void) {
    tree("token wrapper short-grace");
    up(WRAPPER);
    up(WORKER);
    is_watched(WRAPPER, 1);
    terminate(WRAPPER);
    ends(WORKER, 1);
    lives(SUPERVISOR);
    says("parent", WRAPPER, WORKER, "event", 0);
}

static void helpers_end(void) {
    tree("helpers neighbour");
    up_with_helpers();
    up(NEIGHBOUR);
    if (shared->by[WORKER].scope != LOCALAI_PARENTWATCH_SCOPE_TREE) {
        fail("the scope is %ld", shared->by[WORKER].scope);
    }
    terminate(SUPERVISOR);
    ends(WORKER, 1);
    ends(HELPER, 1);
    ends(GRANDCHILD, 1);
    lives(NEIGHBOUR);
}

static void helpers_of_scope_process_live(void) {
    tree("helpers scope-process");
    up_with_helpers();
    terminate(SUPERVISOR);
    ends(WORKER, 1);
    lives(HELPER);
    lives(GRANDCHILD);
}

/* Waiting needs no watcher. Here the environment leaves the watcher off. */
static void wait_for_the_parent(void) {
    tree_with("waits", NULL);
    up(WORKER);
    lives(WORKER);
    terminate(SUPERVISOR);
    ends(WORKER, 11);
}

/* The neighbour's parent has ended, and a helper has reused the parent's id. The helper is younger than the
 * neighbour, so it cannot be its parent. */
static void neighbour_of_a_reused_id_lives(void) {
    tree("launcher");
    up(WORKER);
    if (shared->by[HELPER].pid == -1) {
        longjmp(failed, SKIPPED);
    }
    up(NEIGHBOUR);
    up(HELPER);
    terminate(SUPERVISOR);
    ends(WORKER, 1);
    ends(HELPER, 1);
    lives(NEIGHBOUR);
}

static void sibling_ends(void) {
    tree("sibling");
    up(WORKER);
    up(SIBLING);
    terminate(SIBLING);
    ends(SIBLING, 3);
    lives(WORKER);
    terminate(SUPERVISOR);
    ends(WORKER, 1);
}

static void is_off(const char *watch) {
    tree_with("helpers", watch);
    up_with_helpers();
    status_is(LOCALAI_PARENTWATCH_DISABLED);
    terminate(SUPERVISOR);
    ends(SUPERVISOR, 3);
    lives(WORKER);
    lives(GRANDCHILD);
}

static void switched_off(void) { is_off("off"); }
static void off_by_default(void) { is_off(NULL); }

static void hook_runs(void) {
    tree("hook helpers");
    up_with_helpers();
    terminate(SUPERVISOR);
    ends(WORKER, 1);
    ends(GRANDCHILD, 1);
    if (shared->hook_ran != 1) {
        fail("the hook has run %ld times", shared->hook_ran);
    }
}

static void hook_hangs(void) {
    tree("hook hook-hangs short-grace");
    up(WORKER);
    terminate(SUPERVISOR);
    ends(WORKER, 1);
    if (shared->hook_ran != 1) {
        fail("the hook has run %ld times", shared->hook_ran);
    }
}

/* The worker exits by itself. Its helpers end all the same. */
static void hook_exits(void) {
    tree("hook hook-exits helpers");
    up_with_helpers();
    terminate(SUPERVISOR);
    ends(WORKER, 9);
    ends(HELPER, ANY);
    ends(GRANDCHILD, ANY);
}

static void full_pipe_on_stderr(void) {
    tree("full-pipe");
    up(WORKER);
    terminate(SUPERVISOR);
    ends(WORKER, 1);
}

static void exec_supervisor_terminated(void) {
    tree_with("exec plain helpers neighbour", NULL);
    up_with_helpers();
    up(NEIGHBOUR);
    up(EXEC);
    lives(EXEC);
    terminate(SUPERVISOR);
    ends(EXEC, 1);
    ends(WORKER, 1);
    ends(HELPER, 1);
    ends(GRANDCHILD, 1);
    lives(NEIGHBOUR);
    says("parent", SUPERVISOR, WORKER, "event", 0);
}

static void exec_program_ended(void) {
    tree_with("exec plain helpers", NULL);
    up_with_helpers();
    up(EXEC);
    up(SUPERVISOR);
    let_end(WORKER);
    ends(WORKER, 7);
    ends(EXEC, 7);
    ends(HELPER, 1);
    ends(GRANDCHILD, 1);
    lives(SUPERVISOR);
}

static void exec_terminated(void) {
    tree_with("exec plain helpers", NULL);
    up_with_helpers();
    up(EXEC);
    terminate(EXEC);
    ends(EXEC, 3);
    ends(WORKER, ANY);
    ends(GRANDCHILD, ANY);
}

static void exec_scope_process(void) {
    tree_with("exec plain helpers scope-process", NULL);
    up_with_helpers();
    up(EXEC);
    terminate(SUPERVISOR);
    ends(EXEC, 1);
    ends(WORKER, 1);
    lives(HELPER);
    lives(GRANDCHILD);
}

static void exec_switched_off(void) {
    tree_with("exec plain helpers", "off");
    up_with_helpers();
    up(EXEC);
    terminate(SUPERVISOR);
    ends(SUPERVISOR, 3);
    lives(WORKER);
    let_end(WORKER);
    ends(EXEC, 7);
    lives(GRANDCHILD);
}

static const struct scenario {
    const char *name;
    void (*run)(void);
} scenarios[] = {
#define SCENARIO(name) {#name, name}
    SCENARIO(supervisor_terminated),
    SCENARIO(supervisor_ended),
    SCENARIO(dead_before_arming),
    SCENARIO(dead_before_arming_by_number),
    SCENARIO(dead_before_arming_number_reused),
    SCENARIO(number_of_another_process),
    SCENARIO(parent_gone_no_supervisor_named),
    SCENARIO(parent_gone_number_reused),
    SCENARIO(token_of_linux),
    SCENARIO(token_with_another_creation_time),
    SCENARIO(supervisor_behind_a_wrapper),
    SCENARIO(wrapper_ended),
    SCENARIO(helpers_end),
    SCENARIO(helpers_of_scope_process_live),
    SCENARIO(neighbour_of_a_reused_id_lives),
    SCENARIO(sibling_ends),
    SCENARIO(switched_off),
    SCENARIO(off_by_default),
    SCENARIO(hook_runs),
    SCENARIO(hook_hangs),
    SCENARIO(hook_exits),
    SCENARIO(full_pipe_on_stderr),
    SCENARIO(wait_for_the_parent),
    SCENARIO(exec_supervisor_terminated),
    SCENARIO(exec_program_ended),
    SCENARIO(exec_terminated),
    SCENARIO(exec_scope_process),
    SCENARIO(exec_switched_off),
};

static int run(const struct scenario *scenario) {
    printf("%-34s ", scenario->name);
    fflush(stdout);
    ULONGLONG began = GetTickCount64();
    volatile int attempts = 3, outcome;
    do {
        switch (setjmp(failed)) {
        case OK:
            scenario->run();
            printf("ok (%llu ms)\n", GetTickCount64() - began);
            outcome = OK;
            break;
        case FAILED:
            outcome = FAILED;
            break;
        default:
            outcome = SKIPPED;
        }
        end_tree();
        /* A skipped scenario is tried again: an unrelated process or thread may have taken the id. */
    } while (outcome == SKIPPED && --attempts);
    if (outcome == SKIPPED) {
        printf("\nSKIPPED: %s: the system does not give the number to another process\n", scenario->name);
    }
    fflush(stdout);
    return outcome == FAILED;
}

int main(int count, char **arguments) {
    const char *name = getenv("PW_SHARED");
    for (int role = 0; name && count == 2 && role < ROLES; role++) {
        if (!strcmp(arguments[1], names[role])) {
            HANDLE opened = OpenFileMappingA(FILE_MAP_ALL_ACCESS, FALSE, name);
            shared = MapViewOfFile(opened, FILE_MAP_ALL_ACCESS, 0, 0, 0);
            return shared ? be(role) : 3;
        }
    }
    int ran = 0, failures = 0;
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        int is_asked_for = count == 1;
        for (int argument = 1; argument < count; argument++) {
            is_asked_for |= !strcmp(arguments[argument], scenarios[i].name);
        }
        if (is_asked_for) {
            ran++;
            failures += run(&scenarios[i]);
        }
    }
    printf("%d scenarios, %d failed\n", ran, failures);
    return failures || !ran;
}
