/* Stands in for QEMU: writes what the kernel gave it at exec to standard output, then ends as it is told.
 *
 * Each section is "NAME LENGTH\n" and that many bytes. FAKE_THEN=exit:N, kill:N, echo (standard input) or sleep. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

static void section(const char *name, const char *data, size_t size)
{
    printf("%s %zu\n", name, size);
    fwrite(data, 1, size, stdout);
}

static void text(const char *name, const char *data) { section(name, data, strlen(data)); }

static void number(const char *name, long value)
{
    char buffer[32];
    snprintf(buffer, sizeof buffer, "%ld", value);
    text(name, buffer);
}

static void words(const char *name, char **list)
{
    size_t size = 0;
    for (char **word = list; *word; word++)
        size += strlen(*word) + 1;
    printf("%s %zu\n", name, size);
    for (char **word = list; *word; word++)
        fwrite(*word, 1, strlen(*word) + 1, stdout);
}

static void signals(void)
{
    char blocked[65] = {0}, ignored[65] = {0};
    sigset_t set;
    sigprocmask(SIG_BLOCK, NULL, &set);
    for (int number = 1; number <= 64; number++) {
        struct sigaction action;
        blocked[number - 1] = sigismember(&set, number) == 1 ? '1' : '0';
        ignored[number - 1] = sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN ? '1' : '0';
    }
    text("blocked", blocked);
    text("ignored", ignored);
}

static void limits(void)
{
    char buffer[4096] = "";
    for (int which = 0; which < RLIM_NLIMITS; which++) {
        struct rlimit limit = {0};
        getrlimit(which, &limit);
        snprintf(buffer + strlen(buffer), sizeof buffer - strlen(buffer), "%d %llu %llu\n", which,
                 (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max);
    }
    text("limits", buffer);
}

static void descriptors(void)
{
    char buffer[8192] = "";
    for (int fd = 0; fd < 1024; fd++) {
        struct stat status;
        int flags = fcntl(fd, F_GETFD);
        if (flags < 0 || fstat(fd, &status) < 0)
            continue;
        snprintf(buffer + strlen(buffer), sizeof buffer - strlen(buffer), "%d %lu %lu %d %d %d\n", fd,
                 (unsigned long)status.st_dev, (unsigned long)status.st_ino, (int)(status.st_mode & S_IFMT) >> 12,
                 flags, fcntl(fd, F_GETFL));
    }
    text("descriptors", buffer);
}

int main(int argc, char **argv)
{
    char cwd[4096] = "", *then = getenv("FAKE_THEN");
    int pdeathsig = 0;
    mode_t mask = umask(0);
    (void)argc;
    umask(mask);
    prctl(PR_GET_PDEATHSIG, &pdeathsig);
    words("argv", argv);
    words("environment", environ);
    text("cwd", getcwd(cwd, sizeof cwd) ? cwd : "?");
    number("umask", mask);
    number("pid", getpid());
    number("ppid", getppid());
    number("pgid", getpgid(0));
    number("sid", getsid(0));
    number("uid", getuid());
    number("tty", isatty(0) ? tcgetpgrp(0) : -1);
    number("nice", getpriority(PRIO_PROCESS, 0));
    number("pdeathsig", pdeathsig);
    signals();
    limits();
    descriptors();
    fflush(stdout);
    if (!then)
        return 0;
    if (!strncmp(then, "exit:", 5))
        return atoi(then + 5);
    if (!strncmp(then, "kill:", 5)) {
        kill(getpid(), atoi(then + 5));
        pause();
    }
    if (!strcmp(then, "echo")) {
        char byte;
        while (read(0, &byte, 1) == 1)
            if (write(1, &byte, 1) != 1)
                return 1;
    }
    if (!strcmp(then, "sleep"))
        pause();
    return 0;
}
