/*
 * A VMM in the manner of Firecracker: vCPUs before memory; each vCPU's descriptor duplicated and
 * its kvm_run mapped twice; vCPU threads confined by seccomp before they first run; RAM on both
 * sides of the gap below 4 GiB, in a reservation; a device that hears of the guest by ioeventfd and
 * answers by irqfd. Each guest is paused while it counts, and goes on in another VM, whose memory is
 * a private mapping of the snapshot's file. Once for each way into a kernel.
 */
#define _GNU_SOURCE
#include "boot.h"
#include "confine.h"
#include "firecracker_guest.h"
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 0x1000ULL
#define GIB (1ULL << 30)
#define LOW_SIZE (3 * GIB)
#define HIGH_SIZE (16ULL << 20)
#define HIGH_GPA (4 * GIB)
#define RAM_SIZE (LOW_SIZE + HIGH_SIZE)
#define WRITTEN_BY_US 0x200000 /* all that the VMM writes itself lies below */
#define ALIGNMENT (2ULL << 20)

#define VCPUS 2
#define GSIS 24
#define ARCH_GET_XCOMP_SUPP 0x1021
#define ARCH_REQ_XCOMP_GUEST_PERM 0x1025
#define XFEATURE_TILE_DATA 18

struct processor {
	struct vcpu vcpu;
	int copy;		/* a duplicate of its descriptor */
	struct kvm_run *second; /* kvm_run, mapped through the duplicate */
	uint8_t *ram;
	pthread_t thread;
	struct vcpu_state state; /* when it was paused */
};

struct machine {
	int vm;
	uint8_t *ram; /* of RAM_SIZE */
	int notify, interrupt; /* eventfds */
	atomic_bool stopping;
	pthread_t device;
	struct processor processors[VCPUS];
};

static volatile uint32_t *word(const struct machine *machine, uint64_t gpa)
{
	return (volatile uint32_t *)(machine->ram + gpa);
}

/* `size` bytes of address space at a multiple of 2 MiB, without memory. */
static uint8_t *reserve(size_t size)
{
	uint8_t *start = mmap(NULL, size + ALIGNMENT, PROT_NONE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(start != MAP_FAILED);
	return start + (-(uintptr_t)start & (ALIGNMENT - 1));
}

/* Guest memory: empty, or that of the snapshot in `file`. */
static uint8_t *map_ram(int file)
{
	uint8_t *ram = reserve(RAM_SIZE);
	int flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE | (file < 0 ? MAP_ANONYMOUS : 0);
	CHECK(mmap(ram, LOW_SIZE, PROT_READ | PROT_WRITE, flags, file, 0) == ram);
	CHECK(mmap(ram + LOW_SIZE, HIGH_SIZE, PROT_READ | PROT_WRITE, flags, file,
		   file < 0 ? 0 : LOW_SIZE) == ram + LOW_SIZE);
	return ram;
}

static void add_slots(const struct machine *machine)
{
	struct kvm_userspace_memory_region regions[] = {
		{ 0, KVM_MEM_LOG_DIRTY_PAGES, 0, LOW_SIZE, (uintptr_t)machine->ram },
		{ 1, KVM_MEM_LOG_DIRTY_PAGES, HIGH_GPA, HIGH_SIZE,
		  (uintptr_t)machine->ram + LOW_SIZE },
	};
	for (unsigned i = 0; i < 2; i++)
		CHECK(ioctl(machine->vm, KVM_SET_USER_MEMORY_REGION, &regions[i]) == 0);
}

static void *serve_device(void *argument)
{
	struct machine *machine = argument;
	uint64_t count;
	while (read(machine->notify, &count, sizeof count) == sizeof count && !machine->stopping) {
		*word(machine, REPLY) = *word(machine, REQUEST) + 1;
		CHECK(write(machine->interrupt, &(uint64_t){ 1 }, 8) == 8);
	}
	return NULL;
}

static void add_device(struct machine *machine)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entries[GSIS];
	} routing = { .head.nr = GSIS };
	for (unsigned gsi = 0; gsi < GSIS; gsi++)
		routing.entries[gsi] = (struct kvm_irq_routing_entry){
			.gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = { .irqchip = KVM_IRQCHIP_IOAPIC, .pin = gsi },
		};
	CHECK(ioctl(machine->vm, KVM_SET_GSI_ROUTING, &routing) == 0);

	machine->notify = eventfd(0, EFD_CLOEXEC);
	machine->interrupt = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct kvm_ioeventfd event = {
		.addr = DEVICE + DEVICE_NOTIFY, .len = 4, .fd = machine->notify,
		.datamatch = 0, .flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
	};
	CHECK(ioctl(machine->vm, KVM_IOEVENTFD, &event) == 0);
	struct kvm_irqfd irqfd = { .fd = machine->interrupt, .gsi = DEVICE_GSI };
	CHECK(ioctl(machine->vm, KVM_IRQFD, &irqfd) == 0);
	CHECK(!pthread_create(&machine->device, NULL, serve_device, machine));
}

/* A VM with all but registers; its memory is empty or that of a snapshot. */
static void create(struct machine *machine, int kvm, int snapshot)
{
	machine->stopping = 0;
	machine->vm = vm_create(kvm);
	CHECK(ioctl(machine->vm, KVM_SET_TSS_ADDR, 0xfffbd000) == 0);
	CHECK(ioctl(machine->vm, KVM_CREATE_IRQCHIP, 0) == 0);
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	CHECK(ioctl(machine->vm, KVM_CREATE_PIT2, &pit) == 0);

	for (unsigned id = 0; id < VCPUS; id++) {
		struct processor *it = &machine->processors[id];
		it->vcpu = vcpu_create(kvm, machine->vm, id);
		it->copy = fcntl(it->vcpu.fd, F_DUPFD_CLOEXEC, 0);
		CHECK(it->copy >= 0);
		it->second = mmap(NULL, it->vcpu.run_size, PROT_READ | PROT_WRITE, MAP_SHARED,
				  it->copy, 0);
		CHECK(it->second != MAP_FAILED);
	}
	machine->ram = map_ram(snapshot);
	add_slots(machine);
	add_device(machine);
}

static void boot(struct machine *machine, int kvm, int by_pvh)
{
	LOAD_GUEST(machine->ram + BASE, firecracker_guest);
	for (unsigned id = 0; id < VCPUS; id++) {
		const struct vcpu *vcpu = &machine->processors[id].vcpu;
		boot_set_cpuid(kvm, vcpu, id);
		boot_set_msrs(vcpu);
		if (by_pvh)
			boot_enter_pvh(vcpu, machine->ram,
				       BASE + (firecracker_pvh - firecracker_guest));
		else
			boot_enter_long_mode(vcpu, machine->ram, BASE);
		boot_set_fpu(vcpu);
		boot_set_lapic(vcpu);
	}
}

/* Firecracker's list for vCPU threads, as far as this program comes. */
static void confine_vcpu_thread(void)
{
	static const unsigned calls[] = {
		SYS_write,	   SYS_futex,	 SYS_exit,	SYS_exit_group, SYS_rt_sigreturn,
		SYS_rt_sigprocmask, SYS_madvise, SYS_munmap, SYS_sched_yield,
	};
	static const unsigned long ioctls[] = {
		KVM_RUN,	KVM_GET_MP_STATE, KVM_GET_VCPU_EVENTS, KVM_GET_LAPIC,
		KVM_GET_SREGS,	KVM_GET_REGS,	  KVM_GET_MSRS,	       KVM_GET_CPUID2,
		KVM_GET_DEBUGREGS, KVM_GET_XSAVE, KVM_GET_XSAVE2,      KVM_GET_XCRS,
		KVM_GET_TSC_KHZ, KVM_KVMCLOCK_CTRL, KVM_SET_GSI_ROUTING, KVM_IRQFD,
	};
	confine(calls, sizeof calls / sizeof *calls, ioctls, sizeof ioctls / sizeof *ioctls);
}

static void answer_mmio(struct kvm_run *run)
{
	uint64_t offset = run->mmio.phys_addr - DEVICE;
	uint32_t value;
	CHECK(run->mmio.len == 4);
	memcpy(&value, run->mmio.data, 4);
	if (!run->mmio.is_write) {
		CHECK(offset == 0);
		memcpy(run->mmio.data, &(uint32_t){ DEVICE_MAGIC }, 4);
	} else {
		CHECK((offset == DEVICE_STATUS && value == 0xf) ||
		      (offset == DEVICE_NOTIFY && value == 1));
	}
}

/* Whether the guest has reset the machine. */
static int answer_port(struct processor *it)
{
	struct kvm_run *run = it->vcpu.run;
	uint8_t value = vcpu_io_value(&it->vcpu);
	CHECK(run->io.direction == KVM_EXIT_IO_OUT && run->io.size == 1 && run->io.count == 1);
	if (run->io.port == KEYBOARD_PORT)
		return value == KEYBOARD_RESET;
	CHECK(run->io.port == SERIAL_PORT);
	CHECK(write(STDOUT_FILENO, &value, 1) == 1);
	return 0;
}

/* Runs until the guest resets the machine or somebody sets immediate_exit; saves the vCPU then. */
static void *run_vcpu(void *argument)
{
	struct processor *it = argument;
	struct kvm_run *run = it->vcpu.run;
	confine_vcpu_thread();
	for (;;) {
		if (ioctl(it->vcpu.fd, KVM_RUN, 0) < 0) {
			CHECK(errno == EINTR || errno == EAGAIN);
			if (!run->immediate_exit)
				continue;
			run->immediate_exit = 0;
			break;
		}
		if (run->exit_reason == KVM_EXIT_MMIO) {
			answer_mmio(run);
		} else {
			CHECK(run->exit_reason == KVM_EXIT_IO);
			if (answer_port(it))
				return NULL;
		}
	}
	/* Without a clock of KVM's in the guest there is nothing to tell it. */
	CHECK(ioctl(it->vcpu.fd, KVM_KVMCLOCK_CTRL, 0) == 0 || errno == EINVAL);
	state_save_vcpu(&it->vcpu, &it->state);
	return NULL;
}

static void start(struct machine *machine)
{
	for (unsigned id = 0; id < VCPUS; id++) {
		struct processor *it = &machine->processors[id];
		it->second->immediate_exit = 0; /* both mappings are touched before the filter */
		CHECK(it->vcpu.run->immediate_exit == 0);
		CHECK(!pthread_create(&it->thread, NULL, run_vcpu, it));
	}
}

static void kick(struct processor *it)
{
	__atomic_store_n(&it->second->immediate_exit, 1, __ATOMIC_SEQ_CST);
	CHECK(!pthread_kill(it->thread, SIGRTMIN));
	CHECK(!pthread_join(it->thread, NULL));
}

/* Bits of the log of a slot, whose pages lie at `offset` of the RAM, go to the snapshot. */
static void save_dirty_pages(const struct machine *machine, int file, uint32_t slot,
			     uint64_t offset, uint64_t must_be_dirty)
{
	static uint64_t bits[LOW_SIZE / PAGE / 64];
	struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = bits };
	CHECK(ioctl(machine->vm, KVM_GET_DIRTY_LOG, &log) == 0);
	uint64_t pages = (slot ? HIGH_SIZE : LOW_SIZE) / PAGE;
	CHECK(bits[must_be_dirty / 64] >> must_be_dirty % 64 & 1);
	for (uint64_t page = 0; page < pages; page++) {
		uint64_t at = offset + page * PAGE;
		if (bits[page / 64] >> page % 64 & 1)
			CHECK(pwrite(file, machine->ram + at, PAGE, at) == (ssize_t)PAGE);
	}
	CHECK(ioctl(machine->vm, KVM_GET_DIRTY_LOG, &log) == 0);
	for (uint64_t i = 0; i < pages / 64; i++)
		CHECK(bits[i] == 0); /* nobody runs */
}

/* The memory of a paused machine; a file. */
static int save_memory(const struct machine *machine)
{
	int file = memfd_create("snapshot", MFD_CLOEXEC);
	CHECK(file >= 0 && ftruncate(file, RAM_SIZE) == 0);
	CHECK(pwrite(file, machine->ram, WRITTEN_BY_US, 0) == WRITTEN_BY_US);
	save_dirty_pages(machine, file, 0, 0, COUNTER / PAGE);
	save_dirty_pages(machine, file, 1, LOW_SIZE, (HIGH - HIGH_GPA) / PAGE);
	return file;
}

static void destroy(struct machine *machine)
{
	machine->stopping = 1;
	CHECK(write(machine->notify, &(uint64_t){ 1 }, 8) == 8);
	CHECK(!pthread_join(machine->device, NULL));
	for (unsigned id = 0; id < VCPUS; id++) {
		struct processor *it = &machine->processors[id];
		CHECK(munmap(it->second, it->vcpu.run_size) == 0 && close(it->copy) == 0);
		vcpu_destroy(&it->vcpu);
	}
	CHECK(close(machine->vm) == 0 && close(machine->notify) == 0);
	CHECK(close(machine->interrupt) == 0 && munmap(machine->ram, RAM_SIZE) == 0);
}

/* Boots, pauses the guest while it counts, and has it go on in a second VM. */
static void live(int kvm, int by_pvh)
{
	static struct machine first, second;
	struct vm_state state;
	create(&first, kvm, -1);
	boot(&first, kvm, by_pvh);
	for (unsigned id = 0; id < VCPUS; id++)
		state_prepare(kvm, &first.processors[id].state);
	start(&first);
	while (!*word(&first, COUNTER))
		sched_yield();
	for (unsigned id = 0; id < VCPUS; id++)
		kick(&first.processors[id]);
	state_save_vm(first.vm, &state);
	int snapshot = save_memory(&first);
	uint32_t counted = *word(&first, COUNTER);
	destroy(&first);

	create(&second, kvm, snapshot);
	CHECK(close(snapshot) == 0);
	for (unsigned id = 0; id < VCPUS; id++) {
		state_restore_vcpu(&second.processors[id].vcpu, &first.processors[id].state);
		second.processors[id].state = first.processors[id].state;
	}
	state_restore_vm(second.vm, &state);
	start(&second);
	while (*word(&second, COUNTER) == counted)
		sched_yield();
	*word(&second, GO) = 1;
	CHECK(!pthread_join(second.processors[0].thread, NULL));
	kick(&second.processors[1]);
	CHECK(*word(&second, APS) == 1 && *word(&second, INTERRUPTS) == 2 * ROUNDS);
	destroy(&second);
}

static void on_kick(int signal)
{
	(void)signal;
}

/* What a guest with AMX would need of the host; there may be none. */
static void ask_for_tile_data(void)
{
	uint64_t supported = 0;
	if (syscall(SYS_arch_prctl, ARCH_GET_XCOMP_SUPP, &supported) == 0 &&
	    supported >> XFEATURE_TILE_DATA & 1)
		CHECK(syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_GUEST_PERM, XFEATURE_TILE_DATA) == 0);
}

int main(int argc, char **argv)
{
	static const int wanted[] = {
		KVM_CAP_IRQCHIP, KVM_CAP_IOEVENTFD, KVM_CAP_IRQFD, KVM_CAP_USER_MEMORY,
		KVM_CAP_SET_TSS_ADDR, KVM_CAP_PIT2, KVM_CAP_PIT_STATE2, KVM_CAP_ADJUST_CLOCK,
		KVM_CAP_VCPU_EVENTS, KVM_CAP_MP_STATE, KVM_CAP_XCRS, KVM_CAP_XSAVE,
		KVM_CAP_DEBUGREGS, KVM_CAP_EXT_CPUID,
	};
	struct sigaction action = { .sa_handler = on_kick };
	CHECK(sigaction(SIGRTMIN, &action, NULL) == 0);

	int kvm = kvm_open(argc, argv);
	CHECK(ioctl(kvm, KVM_GET_API_VERSION, 0) == KVM_API_VERSION);
	boot_check_capabilities(kvm, wanted, sizeof wanted / sizeof *wanted);
	ask_for_tile_data();
	live(kvm, 1);
	live(kvm, 0);
	return 0;
}
