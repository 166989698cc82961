/* A process that makes the system calls it is told to. Linux on x86-64.
 *
 * Commands come line by line on fd 0, one answer line each goes to fd 1; numbers are decimal.
 *   call NR A B C D E F     the raw result of a system call (-errno)
 *   thread NR A B C D E F   the tid of a new thread that makes one system call
 *   join TID                its raw result
 *   count ADDRESS           the tid of a new thread that counts in the 64-bit word at ADDRESS
 *   stop TID                what it counted; -1 if it ever read back another number
 *   peek ADDRESS, poke ADDRESS VALUE    a 64-bit load or store, done by the main thread
 *   child                   the pid of a fork that takes commands on fd 3 and answers on fd 4
 *   filter ACTION           what seccomp(2) does from now on with all but read, write and exit
 *   refuse ACTION NR        what it does with one system call
 *   handle SIGNAL           counts a signal in the word `handled`, without SA_RESTART
 *   where                   the addresses of a scratch buffer of two pages and of `handled`
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_THREADS 32

struct call { long nr, a, b, c, d, e, f; };

struct thread {
    pthread_t id;
    struct call call;
    volatile unsigned long *word;
    atomic_int tid;
    long result;
    atomic_int stop;
};

static struct thread threads[MAX_THREADS];
static int thread_count;
static char scratch[8192] __attribute__((aligned(4096)));
static volatile unsigned long handled;

static long make(const struct call *c)
{
    long result;
    register long r10 __asm__("r10") = c->d;
    register long r8 __asm__("r8") = c->e;
    register long r9 __asm__("r9") = c->f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(c->nr), "D"(c->a), "S"(c->b), "d"(c->c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

static void *run_call(void *argument)
{
    struct thread *t = argument;
    t->tid = (int)syscall(SYS_gettid);
    t->result = make(&t->call);
    return NULL;
}

static void *run_count(void *argument)
{
    struct thread *t = argument;
    t->tid = (int)syscall(SYS_gettid);
    unsigned long n = 0;
    int lost = 0;
    while (!t->stop) {
        *t->word = ++n;
        lost |= *t->word != n;
    }
    t->result = lost ? -1 : (long)n;
    return NULL;
}

static long start(void *(*run)(void *), struct call call, unsigned long word)
{
    struct thread *t = &threads[thread_count++];
    t->call = call;
    t->word = (volatile unsigned long *)word;
    if (pthread_create(&t->id, NULL, run, t))
        return -1;
    while (!t->tid)
        sched_yield();
    return t->tid;
}

static long finish(int tid)
{
    for (int i = 0; i < thread_count; i++)
        if (threads[i].tid == tid) {
            threads[i].stop = 1;
            pthread_join(threads[i].id, NULL);
            return threads[i].result;
        }
    return -ESRCH;
}

static void on_signal(int number)
{
    (void)number;
    handled++;
}

static long handle(int number)
{
    struct sigaction action = {.sa_handler = on_signal};
    return sigaction(number, &action, NULL);
}

static long install(struct sock_filter *code, unsigned short len)
{
    struct sock_fprog program = {len, code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static long filter(unsigned action)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_read, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    return install(code, sizeof code / sizeof *code);
}

static long refuse(unsigned action, unsigned number)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    return install(code, sizeof code / sizeof *code);
}

static void read_line(char *line, size_t size)
{
    for (size_t n = 0; n < size - 1; n++) {
        if (read(0, line + n, 1) != 1)
            _exit(0);
        if (line[n] == '\n') {
            line[n] = 0;
            return;
        }
    }
    _exit(1);
}

static void answer(long first, long second)
{
    char line[64];
    int n = snprintf(line, sizeof line, "%ld %ld\n", first, second);
    if (write(1, line, n) != n)
        _exit(1);
}

static long fork_puppet(void)
{
    pid_t pid = fork();
    if (pid)
        return pid;
    dup2(3, 0);
    dup2(4, 1);
    thread_count = 0;
    return getpid();
}

int main(void)
{
    char line[256], name[16];
    for (;;) {
        struct call c = {0};
        name[0] = 0;
        read_line(line, sizeof line);
        sscanf(line, "%15s %ld %ld %ld %ld %ld %ld %ld", name, &c.nr, &c.a, &c.b, &c.c, &c.d,
               &c.e, &c.f);
        if (!strcmp(name, "call"))
            answer(make(&c), 0);
        else if (!strcmp(name, "thread"))
            answer(start(run_call, c, 0), 0);
        else if (!strcmp(name, "count"))
            answer(start(run_count, c, c.nr), 0);
        else if (!strcmp(name, "join") || !strcmp(name, "stop"))
            answer(finish((int)c.nr), 0);
        else if (!strcmp(name, "peek"))
            answer((long)*(volatile unsigned long *)c.nr, 0);
        else if (!strcmp(name, "poke"))
            answer((long)(*(volatile unsigned long *)c.nr = c.a), 0);
        else if (!strcmp(name, "child"))
            answer(fork_puppet(), 0);
        else if (!strcmp(name, "filter"))
            answer(filter((unsigned)c.nr), 0);
        else if (!strcmp(name, "refuse"))
            answer(refuse((unsigned)c.nr, (unsigned)c.a), 0);
        else if (!strcmp(name, "handle"))
            answer(handle((int)c.nr), 0);
        else if (!strcmp(name, "where"))
            answer((long)scratch, (long)&handled);
        else
            _exit(2);
    }
}
