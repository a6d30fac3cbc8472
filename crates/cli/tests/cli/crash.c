/* Runs a command and kills it at its Nth change of a file: before the call, or in the middle of a write.
 *
 *   crash N COMMAND...
 *
 * Prints the name of each change that was begun. Exits with 9 if the command was killed, else as it does. With N = 0 nothing
 * is killed or printed.
 *
 * REFUSE in the environment lists what the system shall not be able to do, such as "mode tmpfile"; see refused(). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct { unsigned long long number; const char *name; } CHANGES[] = {
    {SYS_write, "write"}, {SYS_pwrite64, "write"}, {SYS_writev, "write"}, {SYS_pwritev, "write"},
    {SYS_pwritev2, "write"}, {SYS_copy_file_range, "write"}, {SYS_sendfile, "write"},
    {SYS_fsync, "sync"}, {SYS_fdatasync, "sync"}, {SYS_truncate, "truncate"},
    {SYS_ftruncate, "truncate"}, {SYS_fallocate, "truncate"}, {SYS_rename, "rename"},
    {SYS_renameat, "rename"}, {SYS_renameat2, "rename"}, {SYS_link, "link"}, {SYS_linkat, "link"},
    {SYS_unlink, "unlink"}, {SYS_unlinkat, "unlink"}, {SYS_mkdir, "mkdir"}, {SYS_mkdirat, "mkdir"},
    {SYS_chmod, "mode"}, {SYS_fchmod, "mode"}, {SYS_fchmodat, "mode"}, {SYS_utimensat, "time"},
};

static const char *change(const struct user_regs_struct *call) {
    unsigned long long number = call->orig_rax;
    if (number == SYS_creat || (number == SYS_open && (call->rsi & O_CREAT)) ||
        (number == SYS_openat && (call->rdx & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)))))
        return "create";
    for (size_t i = 0; i < sizeof CHANGES / sizeof *CHANGES; i++)
        if (CHANGES[i].number == number) return CHANGES[i].name;
    return NULL;
}

static int is_refused(const char *what) {
    const char *list = getenv("REFUSE"), *found = list ? strstr(list, what) : NULL;
    size_t len = strlen(what);
    while (found && ((found != list && found[-1] != ' ') || (found[len] && found[len] != ' ')))
        found = strstr(found + 1, what);
    return found != NULL;
}

static int is_folder(pid_t thread, unsigned long long fd) {
    char path[64];
    struct stat there;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", thread, (int)fd);
    return stat(path, &there) == 0 && S_ISDIR(there.st_mode);
}

/* Cuts a time to two seconds. */
static void coarsen(pid_t thread, unsigned long long times) {
    for (int i = 0; times && i < 2; i++, times += 16) {
        long seconds = ptrace(PTRACE_PEEKDATA, thread, times, 0);
        long nanoseconds = ptrace(PTRACE_PEEKDATA, thread, times + 8, 0);
        if (nanoseconds >= 1000000000) continue;
        ptrace(PTRACE_POKEDATA, thread, times, seconds & ~1L);
        ptrace(PTRACE_POKEDATA, thread, times + 8, 0L);
    }
}

/* The error that a call gets, 0 for none. */
static int refused(pid_t thread, const struct user_regs_struct *call) {
    switch (call->orig_rax) {
    case SYS_openat:
        return (call->rdx & O_TMPFILE) == O_TMPFILE && is_refused("tmpfile") ? EOPNOTSUPP : 0;
    case SYS_chmod: case SYS_fchmod: case SYS_fchmodat:
        return is_refused("mode") ? EPERM : 0;
    case SYS_chown: case SYS_fchown: case SYS_fchownat:
        return is_refused("owner") ? EPERM : 0;
    case SYS_utimensat:
        if (is_refused("coarse")) coarsen(thread, call->rdx);
        return is_refused("times") ? EPERM : 0;
    case SYS_link: case SYS_linkat:
        return is_refused("links") ? EPERM : 0;
    case SYS_renameat2:
        return call->r8 && is_refused("noreplace") ? EINVAL : 0;
    case SYS_fsync: case SYS_fdatasync:
        return is_refused("folder-sync") && is_folder(thread, call->rdi) ? EINVAL : 0;
    case SYS_clone:
        return (call->rdi & CLONE_THREAD) && is_refused("threads") ? EAGAIN : 0;
    case SYS_clone3: {
        long flags = ptrace(PTRACE_PEEKDATA, thread, call->rdi, 0);
        return (flags & CLONE_THREAD) && is_refused("threads") ? EAGAIN : 0;
    }
    }
    return 0;
}

/* Of a file system's sizes, as statfs gives them: all, free, and free for everyone. */
static void forget_free(pid_t thread, unsigned long long sizes) {
    for (int i = 2; i < 5; i++) ptrace(PTRACE_POKEDATA, thread, sizes + i * 8, 0L);
}

/* Where each thread is: outside of calls, in one, or in one that gets this error. */
static struct { pid_t thread; int inside, error; } calls[256];

static int place(pid_t thread) {
    int i = 0;
    while (i < 255 && calls[i].thread && calls[i].thread != thread) i++;
    calls[i].thread = thread;
    return i;
}

static int fail(const char *doing) {
    perror(doing);
    return 1;
}

static int killed(pid_t child) {
    int status;
    kill(child, SIGKILL);
    while (waitpid(-1, &status, __WALL) > 0) {}
    return 9;
}

int main(int argc, char **argv) {
    if (argc < 3) return 1;
    long left = atol(argv[1]);
    pid_t child = fork(), halved = 0;
    int status;
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        execv(argv[2], argv + 2);
        return fail(argv[2]);
    }
    if (waitpid(child, &status, 0) < 0 || !WIFSTOPPED(status)) return fail("start");
    if (ptrace(PTRACE_SETOPTIONS, child, 0,
               PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL) < 0)
        return fail("trace");
    pid_t thread = child;
    long signal = 0;
    for (;;) {
        ptrace(PTRACE_SYSCALL, thread, 0, signal);
        signal = 0;
        if ((thread = waitpid(-1, &status, __WALL)) < 0) return fail("wait");
        if (thread == child && WIFEXITED(status)) return WEXITSTATUS(status);
        if (thread == child && WIFSIGNALED(status)) {
            raise(WTERMSIG(status));
            return fail("end");
        }
        if (!WIFSTOPPED(status)) continue;
        if (WSTOPSIG(status) != (SIGTRAP | 0x80)) {
            /* A new thread stops, or its parent does; other signals are passed on. */
            if (WSTOPSIG(status) != SIGTRAP && WSTOPSIG(status) != SIGSTOP) signal = WSTOPSIG(status);
            continue;
        }
        struct user_regs_struct call;
        ptrace(PTRACE_GETREGS, thread, 0, &call);
        int at = place(thread);
        /* rax is -ENOSYS where a call begins. */
        if (calls[at].inside || (long long)call.rax != -ENOSYS) {
            if (thread == halved) return killed(child);
            if (calls[at].error) {
                call.rax = -(long long)calls[at].error;
                ptrace(PTRACE_SETREGS, thread, 0, &call);
            }
            if ((call.orig_rax == SYS_statfs || call.orig_rax == SYS_fstatfs) && is_refused("free"))
                forget_free(thread, call.rsi);
            calls[at].inside = calls[at].error = 0;
            continue;
        }
        calls[at].inside = 1;
        if ((calls[at].error = refused(thread, &call))) {
            call.orig_rax = -1;
            ptrace(PTRACE_SETREGS, thread, 0, &call);
            continue;
        }
        if (atol(argv[1]) == 0) continue;
        const char *name = change(&call);
        if (name == NULL) continue;
        puts(name);
        fflush(stdout);
        if (--left == 0) return killed(child);
        if ((call.orig_rax == SYS_write || call.orig_rax == SYS_pwrite64) && call.rdx > 1 && --left == 0) {
            call.rdx /= 2;
            ptrace(PTRACE_SETREGS, thread, 0, &call);
            halved = thread;
        }
    }
}
