/* What the client side calls of the C library: mmap(2), ptrace(2), process_vm_readv(2). */
struct iovec { void *iov_base; size_t iov_len; };

void *mmap(void *address, size_t size, int protection, int flags, int fd, long offset);
int munmap(void *address, size_t size);
int fallocate(int fd, int mode, long offset, long size);
int memcmp(const void *a, const void *b, size_t size);
long ptrace(long request, long tid, uintptr_t address, uintptr_t data);
long syscall(long number, long a, long b, long c);
ssize_t process_vm_readv(int pid, const struct iovec *local, unsigned long local_count,
    const struct iovec *remote, unsigned long remote_count, unsigned long flags);
ssize_t process_vm_writev(int pid, const struct iovec *local, unsigned long local_count,
    const struct iovec *remote, unsigned long remote_count, unsigned long flags);

typedef void (*cpuid_function)(uint32_t leaf, uint32_t subleaf, uint32_t *registers);
