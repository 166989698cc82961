/*
 * Guest memory that others write: a thread stores into every page while the memory becomes a slot
 * and the guest runs, another waits in read(2) with its buffer there, a third answers a guest that
 * polls. No store may be lost, and all must see one memory. Once for each kind of memory that
 * programs use: private anonymous, shared anonymous, memfd.
 */
#define _GNU_SOURCE
#include "guest.h"
#include "vm.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 0x1000
#define RAM_PAGES 4096 /* 16 MiB */
#define RAM_SIZE (RAM_PAGES * PAGE)
#define FIRST_WRITTEN_PAGE 16
#define WRITTEN_PAGES (RAM_PAGES - FIRST_WRITTEN_PAGE)
#define READ_BUFFER 0x2000
#define ROUND_TRIPS 200

struct writer {
	uint8_t *ram;
	atomic_bool stop;
	atomic_uint sweeps; /* how often all pages were written */
	uint32_t last[WRITTEN_PAGES]; /* the last value stored in each page */
};

struct reader {
	uint8_t *ram;
	int pipe;
	atomic_int tid;
};

static uint8_t *map_private(void)
{
	return ram_map(RAM_SIZE);
}

static uint8_t *map_shared(void)
{
	void *ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(ram != MAP_FAILED);
	return ram;
}

static uint8_t *map_memfd(void)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);
	CHECK(fd >= 0 && ftruncate(fd, RAM_SIZE) == 0);
	void *ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(ram != MAP_FAILED && close(fd) == 0);
	return ram;
}

static volatile uint32_t *word(uint8_t *ram, size_t address)
{
	return (volatile uint32_t *)(ram + address);
}

static void *write_all_pages(void *argument)
{
	struct writer *writer = argument;
	uint32_t value = 0;
	while (!atomic_load(&writer->stop)) {
		for (size_t i = 0; i < WRITTEN_PAGES; i++) {
			writer->last[i] = ++value;
			*word(writer->ram, (FIRST_WRITTEN_PAGE + i) * PAGE) = value;
		}
		atomic_fetch_add(&writer->sweeps, 1);
	}
	return NULL;
}

static void *read_into_ram(void *argument)
{
	struct reader *reader = argument;
	atomic_store(&reader->tid, syscall(SYS_gettid));
	CHECK(read(reader->pipe, reader->ram + READ_BUFFER, 4) == 4);
	return NULL;
}

/* Returns when thread `tid` of this process sleeps in the kernel. */
static void wait_until_asleep(int tid)
{
	char path[64], stat[512], state = 0;
	snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
	while (state != 'S') {
		FILE *file = fopen(path, "r");
		CHECK(file && fgets(stat, sizeof stat, file));
		fclose(file);
		state = strrchr(stat, ')')[2];
		sched_yield();
	}
}

static void *run_guest(void *argument)
{
	CHECK(vcpu_run(argument) == KVM_EXIT_HLT);
	return NULL;
}

/* Each request is answered by a guest that never leaves KVM_RUN. */
static void talk_to_guest(struct vcpu *vcpu, uint8_t *ram)
{
	pthread_t thread;
	vcpu_enter_real_mode(vcpu, 0);
	CHECK(!pthread_create(&thread, NULL, run_guest, vcpu));
	for (uint32_t i = 1; i <= ROUND_TRIPS; i++) {
		*word(ram, MAILBOX_REQUEST) = i;
		while (*word(ram, MAILBOX_REPLY) != i)
			sched_yield();
	}
	*word(ram, MAILBOX_REQUEST) = MAILBOX_END;
	CHECK(!pthread_join(thread, NULL));
}

/* The guest adds up the first dwords of all written pages. */
static uint32_t guest_sum(struct vcpu *vcpu, uint8_t *ram)
{
	LOAD_GUEST(ram, sum_guest);
	vcpu_enter_real_mode(vcpu, 0);
	struct kvm_regs regs = vcpu_get_regs(vcpu);
	regs.rsi = FIRST_WRITTEN_PAGE * PAGE;
	regs.rcx = WRITTEN_PAGES;
	vcpu_set_regs(vcpu, &regs);
	CHECK(vcpu_run(vcpu) == KVM_EXIT_IO);
	return vcpu_io_value(vcpu);
}

static void check_nothing_lost(struct vcpu *vcpu, const struct writer *writer)
{
	uint32_t sum = 0;
	for (size_t i = 0; i < WRITTEN_PAGES; i++) {
		CHECK(*word(writer->ram, (FIRST_WRITTEN_PAGE + i) * PAGE) == writer->last[i]);
		sum += writer->last[i];
	}
	CHECK(guest_sum(vcpu, writer->ram) == sum);
}

static void share_with_writers(int kvm, const char *kind, uint8_t *(*map_memory)(void))
{
	static struct writer writer;
	writer = (struct writer){ .ram = map_memory() };
	LOAD_GUEST(writer.ram, mailbox_guest);
	int ends[2];
	CHECK(pipe(ends) == 0);
	struct reader reader = { .ram = writer.ram, .pipe = ends[0] };

	pthread_t writing, reading;
	CHECK(!pthread_create(&writing, NULL, write_all_pages, &writer));
	CHECK(!pthread_create(&reading, NULL, read_into_ram, &reader));
	while (!atomic_load(&writer.sweeps) || !atomic_load(&reader.tid))
		sched_yield();
	wait_until_asleep(atomic_load(&reader.tid));

	int vm = vm_create(kvm);
	vm_set_memory(vm, 0, 0, writer.ram, RAM_SIZE);
	struct vcpu vcpu = vcpu_create(kvm, vm, 0);
	talk_to_guest(&vcpu, writer.ram);

	CHECK(write(ends[1], "data", 4) == 4);
	CHECK(!pthread_join(reading, NULL));
	CHECK(!memcmp(writer.ram + READ_BUFFER, "data", 4));
	atomic_store(&writer.stop, true);
	CHECK(!pthread_join(writing, NULL));
	check_nothing_lost(&vcpu, &writer);

	vcpu_destroy(&vcpu);
	CHECK(close(vm) == 0 && close(ends[0]) == 0 && close(ends[1]) == 0);
	CHECK(munmap(writer.ram, RAM_SIZE) == 0);
	printf("%s: nothing lost\n", kind);
}

int main(int argc, char **argv)
{
	int kvm = kvm_open(argc, argv);
	share_with_writers(kvm, "private anonymous", map_private);
	share_with_writers(kvm, "shared anonymous", map_shared);
	share_with_writers(kvm, "memfd", map_memfd);
	return 0;
}
