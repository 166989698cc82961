/* What the device calls of the C library: mounts, namespaces, scheduling, signals. */
struct sched_attr {
    uint32_t size; uint32_t policy; uint64_t flags; int32_t nice; uint32_t priority;
    uint64_t runtime; uint64_t deadline; uint64_t period;
};
typedef struct { uint64_t words[16]; } sigset_t;

long syscall(long number, ...);
int mount(const char *source, const char *target, const char *type, unsigned long flags,
          const char *data);
int umount2(const char *target, int flags);
int unshare(int flags);
int sigemptyset(sigset_t *set);
int sigaddset(sigset_t *set, int number);
int signalfd(int fd, const sigset_t *mask, int flags);
