/* Runs a command and kills it at its Nth change of a file: before the call, or in the middle of a write.
 *
 *   crash N COMMAND...
 *
 * Prints the name of each change that was begun. Exits with 9 if the command was killed, else as it does. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
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
        (number == SYS_openat && (call->rdx & O_CREAT)))
        return "create";
    for (size_t i = 0; i < sizeof CHANGES / sizeof *CHANGES; i++)
        if (CHANGES[i].number == number) return CHANGES[i].name;
    return NULL;
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
        if (!WIFSTOPPED(status)) continue;
        if (WSTOPSIG(status) != (SIGTRAP | 0x80)) {
            /* A new thread stops, or its parent does; other signals are passed on. */
            if (WSTOPSIG(status) != SIGTRAP && WSTOPSIG(status) != SIGSTOP) signal = WSTOPSIG(status);
            continue;
        }
        struct user_regs_struct call;
        ptrace(PTRACE_GETREGS, thread, 0, &call);
        /* rax is -ENOSYS where a call begins. */
        if ((long long)call.rax != -38) {
            if (thread == halved) return killed(child);
            continue;
        }
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
