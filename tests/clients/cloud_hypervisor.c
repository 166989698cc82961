/*
 * A VMM in the manner of Cloud Hypervisor: local APICs alone are KVM's, in x2APIC mode; every
 * interrupt is a message, by irqfd or KVM_SIGNAL_MSI, and the routing is replaced while they fire; a
 * level-triggered line ends with an exit; the guest is entered as PVH has it and gets memory while
 * it runs. The guest is paused by a signal whose handler sets immediate_exit, and goes on in another
 * VM. Once for each kind of memory: private, a memfd, and large pages if the host has some.
 */
#define _GNU_SOURCE
#include "boot.h"
#include "cloud_hypervisor_guest.h"
#include "confine.h"
#include "state.h"

#include <errno.h>
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

#define PAGE 0x1000
#define RAM_SIZE (32u << 20)
#define PLUGGED_SIZE (4u << 20)
#define ROM_SIZE (2u << 20)
#define IDENTITY_MAP 0xfeffc000
#define TSS 0xfeffd000
#define IOAPIC_PINS 24
#define GSIS (DEVICE_GSI + 1)
#define ROUTINGS_EVERY 10 /* rings of the device */
#define APIC_BASE_X2APIC 0x400
#define MSI_ADDRESS 0xfee00000
#define MSI_LEVEL_ASSERT 0xc000

enum memory { PRIVATE, SHARED, LARGE };

struct machine {
	int vm;
	struct vcpu vcpu;
	uint8_t *ram, *plugged, *rom;
	int any, exact, wide; /* eventfds that the guest rings */
	int interrupt, line;  /* eventfds that interrupt it */
	atomic_int step;      /* what the guest has asked for, of STEP_*; 0: done */
	atomic_bool stopping;
	unsigned ends; /* of the level-triggered interrupt */
	unsigned rom_writes, others;
	pthread_t processor, device;
};

/* kvm_run of the thread's vCPU, for the signal's handler. */
static _Thread_local struct kvm_run *run_of_thread;

static volatile uint32_t *word(const struct machine *machine, uint64_t gpa)
{
	return (volatile uint32_t *)(machine->ram + gpa);
}

static uint8_t *map_memory(enum memory kind, size_t size)
{
	int protection = PROT_READ | PROT_WRITE;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, file = -1;
	if (kind != PRIVATE) {
		flags = MAP_SHARED;
		file = memfd_create("guest", MFD_CLOEXEC | (kind == LARGE ? MFD_HUGETLB : 0));
		if (kind == LARGE && file < 0)
			return map_memory(SHARED, size); /* the host knows no large pages */
		CHECK(file >= 0 && ftruncate(file, size) == 0);
	}
	void *memory = mmap(NULL, size, protection, flags, file, 0);
	CHECK(file < 0 || close(file) == 0);
	if (kind == LARGE && memory == MAP_FAILED)
		return map_memory(SHARED, size); /* or has none to spare */
	CHECK(memory != MAP_FAILED);
	return memory;
}

/* 24 lines for the I/O APIC of ours, one of them level-triggered, and the device's message. */
static void set_routing(const struct machine *machine, uint8_t device_vector)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entries[GSIS];
	} routing = { .head.nr = GSIS };
	for (unsigned gsi = 0; gsi < GSIS; gsi++) {
		uint32_t data = gsi == DEVICE_GSI ? device_vector : 0x60 + gsi;
		if (gsi == LINE_GSI)
			data = LEVEL_VECTOR | MSI_LEVEL_ASSERT;
		routing.entries[gsi] = (struct kvm_irq_routing_entry){
			.gsi = gsi, .type = KVM_IRQ_ROUTING_MSI,
			.u.msi = { .address_lo = MSI_ADDRESS, .data = data },
		};
	}
	CHECK(ioctl(machine->vm, KVM_SET_GSI_ROUTING, &routing) == 0);
}

static void *serve_device(void *argument)
{
	struct machine *machine = argument;
	uint64_t count;
	for (unsigned rings = 0;; rings++) {
		/* One after the other, as the guest does: odd rings are for any value. */
		int event = (ROUNDS - rings % ROUNDS) & 1 ? machine->any : machine->exact;
		CHECK(read(event, &count, sizeof count) == sizeof count);
		if (machine->stopping)
			return NULL;
		CHECK(count == 1);
		if (rings % ROUTINGS_EVERY == 0)
			set_routing(machine, rings % (2 * ROUTINGS_EVERY) ? SECOND_MSI_VECTOR : MSI_VECTOR);
		*word(machine, REPLY) = *word(machine, REQUEST) + 1;
		CHECK(write(machine->interrupt, &(uint64_t){ 1 }, 8) == 8);
	}
}

static int event_for(const struct machine *machine, unsigned offset, unsigned size, uint64_t value)
{
	int event = eventfd(0, EFD_CLOEXEC | (size == 8 ? EFD_NONBLOCK : 0));
	struct kvm_ioeventfd request = {
		.addr = DEVICE + offset, .len = size, .fd = event, .datamatch = value,
		.flags = size ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0,
	};
	CHECK(event >= 0 && ioctl(machine->vm, KVM_IOEVENTFD, &request) == 0);
	return event;
}

static int irqfd_for(const struct machine *machine, unsigned gsi)
{
	struct kvm_irqfd request = { .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .gsi = gsi };
	CHECK(ioctl(machine->vm, KVM_IRQFD, &request) == 0);
	return request.fd;
}

static void enable(const struct machine *machine, uint32_t capability, uint64_t argument)
{
	struct kvm_enable_cap request = { .cap = capability, .args = { argument } };
	CHECK(ioctl(machine->vm, KVM_ENABLE_CAP, &request) == 0);
}

static void set_slot(const struct machine *machine, struct kvm_userspace_memory_region region)
{
	CHECK(ioctl(machine->vm, KVM_SET_USER_MEMORY_REGION, &region) == 0);
}

static void log_dirty_pages(const struct machine *machine, uint32_t flags)
{
	set_slot(machine, (struct kvm_userspace_memory_region){
				  0, flags, 0, RAM_SIZE, (uintptr_t)machine->ram });
}

/* A VM with all but registers around memory that is there. */
static void create(struct machine *machine, int kvm)
{
	machine->vm = vm_create(kvm);
	CHECK(ioctl(machine->vm, KVM_SET_IDENTITY_MAP_ADDR, &(uint64_t){ IDENTITY_MAP }) == 0);
	CHECK(ioctl(machine->vm, KVM_SET_TSS_ADDR, TSS) == 0);
	enable(machine, KVM_CAP_SPLIT_IRQCHIP, IOAPIC_PINS);
	enable(machine, KVM_CAP_X2APIC_API,
	       KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
	log_dirty_pages(machine, 0);
	set_slot(machine, (struct kvm_userspace_memory_region){
				  1, KVM_MEM_READONLY, ROM, ROM_SIZE, (uintptr_t)machine->rom });
	machine->vcpu = vcpu_create(kvm, machine->vm, 0);

	machine->any = event_for(machine, DEVICE_NOTIFY_ANY, 0, 0);
	machine->exact = event_for(machine, DEVICE_NOTIFY_32, 4, NOTIFY_32_VALUE);
	machine->wide = event_for(machine, DEVICE_NOTIFY_64, 8, NOTIFY_64_VALUE);
	set_routing(machine, MSI_VECTOR);
	machine->interrupt = irqfd_for(machine, DEVICE_GSI);
	machine->line = irqfd_for(machine, LINE_GSI);
	CHECK(!pthread_create(&machine->device, NULL, serve_device, machine));
}

static void plug_memory(const struct machine *machine)
{
	set_slot(machine, (struct kvm_userspace_memory_region){
				  2, 0, PLUGGED, PLUGGED_SIZE, (uintptr_t)machine->plugged });
}

static void boot(const struct machine *machine, int kvm)
{
	const struct vcpu *vcpu = &machine->vcpu;
	struct kvm_sregs sregs;
	LOAD_GUEST(machine->ram + BASE, cloud_hypervisor_guest);
	*(uint32_t *)machine->rom = ROM_VALUE;
	boot_set_cpuid(kvm, vcpu, 0);
	boot_set_msrs(vcpu);
	boot_set_fpu(vcpu);
	boot_enter_pvh(vcpu, machine->ram, BASE);
	CHECK(ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) == 0);
	sregs.apic_base |= APIC_BASE_X2APIC;
	CHECK(ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) == 0);
	boot_set_lapic(vcpu);
}

/* Cloud Hypervisor's list for vCPU threads, as far as this program comes. */
static void confine_vcpu_thread(void)
{
	static const unsigned calls[] = {
		SYS_write,  SYS_futex,	SYS_exit,     SYS_exit_group, SYS_rt_sigreturn,
		SYS_rt_sigprocmask, SYS_madvise, SYS_mmap, SYS_mprotect, SYS_mremap, SYS_munmap,
		SYS_sched_yield, SYS_pread64, SYS_pwrite64, SYS_openat, SYS_nanosleep,
	};
	static const unsigned long ioctls[] = {
		KVM_RUN, KVM_NMI, KVM_CHECK_EXTENSION, KVM_IOEVENTFD, KVM_IRQFD,
		KVM_SET_DEVICE_ATTR, KVM_SET_GSI_ROUTING, KVM_SET_USER_MEMORY_REGION,
		KVM_GET_NESTED_STATE, KVM_SET_NESTED_STATE,
	};
	confine(calls, sizeof calls / sizeof *calls, ioctls, sizeof ioctls / sizeof *ioctls);
}

static void answer_mmio(struct machine *machine, struct kvm_run *run)
{
	uint64_t value = 0;
	memcpy(&value, run->mmio.data, run->mmio.len);
	switch (run->mmio.phys_addr) {
	case IOAPIC:
		CHECK(!run->mmio.is_write);
		memset(run->mmio.data, 0, sizeof run->mmio.data);
		break;
	case ROM:
		CHECK(run->mmio.is_write && value == 1);
		machine->rom_writes++;
		break;
	case DEVICE + DEVICE_NOTIFY_64:
		CHECK(run->mmio.is_write && run->mmio.len == 8 && value == NOTIFY_64_OTHER);
		machine->others++;
		break;
	default:
		CHECK(run->mmio.phys_addr == DEVICE + DEVICE_LINE);
	}
}

/* Whether the guest has reset the machine. What it asks for is done by the VMM's main thread. */
static int answer_port(struct machine *machine)
{
	struct kvm_run *run = machine->vcpu.run;
	uint8_t value = vcpu_io_value(&machine->vcpu);
	CHECK(run->io.direction == KVM_EXIT_IO_OUT && run->io.size == 1);
	if (run->io.port == RESET_PORT)
		return 1;
	CHECK(run->io.port == DEBUG_PORT && value >= STEP_DEVICE && value <= STEP_PLUG);
	machine->step = value;
	while (machine->step)
		sched_yield();
	return 0;
}

/* Runs until the guest resets the machine or the signal comes; then nothing is left unfinished. */
static void *run_vcpu(void *argument)
{
	struct machine *machine = argument;
	struct kvm_run *run = machine->vcpu.run;
	run_of_thread = run;
	confine_vcpu_thread();
	for (;;) {
		if (ioctl(machine->vcpu.fd, KVM_RUN, 0) < 0) {
			CHECK(errno == EINTR || errno == EAGAIN);
			if (run->immediate_exit)
				break;
			continue;
		}
		if (run->exit_reason == KVM_EXIT_MMIO) {
			answer_mmio(machine, run);
		} else if (run->exit_reason == KVM_EXIT_IOAPIC_EOI) {
			CHECK(run->eoi.vector == LEVEL_VECTOR);
			machine->ends++;
		} else {
			CHECK(run->exit_reason == KVM_EXIT_IO);
			if (answer_port(machine))
				return NULL;
		}
	}
	CHECK(ioctl(machine->vcpu.fd, KVM_RUN, 0) == -1 && errno == EINTR);
	run->immediate_exit = 0;
	return NULL;
}

static void serve_step(struct machine *machine)
{
	static const char *const names[] = {
		[STEP_DEVICE] = "the deadline timer interrupts",
		[STEP_SIGNAL] = "the device answers",
		[STEP_LEVEL] = "a message is signalled",
		[STEP_NMI] = "a level-triggered line interrupts and ends",
		[STEP_PLUG] = "an NMI comes, and ROM stays as it is",
	};
	int step = machine->step;
	puts(names[step]);
	fflush(stdout);
	if (step == STEP_SIGNAL) {
		struct kvm_msi msi = { .address_lo = MSI_ADDRESS, .data = SIGNAL_VECTOR };
		CHECK(ioctl(machine->vm, KVM_SIGNAL_MSI, &msi) == 1);
	}
	if (step == STEP_LEVEL)
		CHECK(write(machine->line, &(uint64_t){ 1 }, 8) == 8);
	if (step == STEP_NMI)
		CHECK(ioctl(machine->vcpu.fd, KVM_NMI, 0) == 0);
	if (step == STEP_PLUG)
		plug_memory(machine);
	machine->step = 0;
}

static void start(struct machine *machine)
{
	CHECK(!machine->vcpu.run->immediate_exit); /* touched before the thread is confined */
	CHECK(!pthread_create(&machine->processor, NULL, run_vcpu, machine));
}

/* The signal goes out again and again: one may come while the thread is about to enter. */
static void pause_vcpu(struct machine *machine)
{
	while (pthread_tryjoin_np(machine->processor, NULL) == EBUSY) {
		pthread_kill(machine->processor, SIGRTMIN);
		usleep(10000);
	}
}

static void destroy(struct machine *machine)
{
	machine->stopping = 1;
	CHECK(write(machine->any, &(uint64_t){ 1 }, 8) == 8);
	CHECK(write(machine->exact, &(uint64_t){ 1 }, 8) == 8);
	CHECK(!pthread_join(machine->device, NULL));
	vcpu_destroy(&machine->vcpu);
	CHECK(close(machine->any) == 0 && close(machine->exact) == 0 && close(machine->wide) == 0);
	CHECK(close(machine->interrupt) == 0 && close(machine->line) == 0);
	CHECK(close(machine->vm) == 0);
}

/* What the guest has brought about until it counts. */
static void check_first_part(const struct machine *machine)
{
	uint64_t rung;
	CHECK(*word(machine, INTERRUPTS) == ROUNDS && *word(machine, DEADLINES) == 1);
	CHECK(*word(machine, SIGNALLED) == 1 && *word(machine, NMIS) == 1);
	CHECK(*word(machine, LEVELS) == 1 && machine->ends == 1);
	CHECK(machine->rom_writes == 1 && *(uint32_t *)machine->rom == ROM_VALUE);
	CHECK(machine->others == 1);
	CHECK(read(machine->wide, &rung, sizeof rung) == sizeof rung && rung == 1);
}

/* While the guest counts. */
static void check_dirty_log(const struct machine *machine)
{
	static uint64_t bits[RAM_SIZE / PAGE / 64];
	struct kvm_dirty_log log = { .slot = 0, .dirty_bitmap = bits };
	log_dirty_pages(machine, KVM_MEM_LOG_DIRTY_PAGES);
	uint32_t before = *word(machine, COUNTER);
	while (*word(machine, COUNTER) == before)
		sched_yield();
	CHECK(ioctl(machine->vm, KVM_GET_DIRTY_LOG, &log) == 0);
	CHECK(bits[0] >> COUNTER / PAGE & 1);
	log_dirty_pages(machine, 0);
}

/* Boots, pauses the guest while it counts, and has it go on in a second VM. */
static void live(int kvm, enum memory kind)
{
	static struct vcpu_state state;
	struct machine first = {
		.ram = map_memory(kind, RAM_SIZE), .plugged = map_memory(kind, PLUGGED_SIZE),
		.rom = map_memory(kind, ROM_SIZE),
	};
	create(&first, kvm);
	boot(&first, kvm);
	state_prepare(kvm, &state);
	start(&first);
	while (!*word(&first, COUNTER))
		if (first.step)
			serve_step(&first);
	check_dirty_log(&first);
	pause_vcpu(&first);
	check_first_part(&first);
	state_save_vcpu(&first.vcpu, &state);
	struct kvm_clock_data clock;
	CHECK(ioctl(first.vm, KVM_GET_CLOCK, &clock) == 0);
	clock.flags = 0;
	destroy(&first);

	struct machine second = { .ram = first.ram, .plugged = first.plugged, .rom = first.rom };
	create(&second, kvm);
	plug_memory(&second);
	CHECK(ioctl(second.vm, KVM_SET_CLOCK, &clock) == 0);
	state_restore_vcpu(&second.vcpu, &state);
	start(&second);
	*word(&second, GO) = 1;
	CHECK(!pthread_join(second.processor, NULL));
	CHECK(*word(&second, INTERRUPTS) == 2 * ROUNDS && *word(&second, DEADLINES) == 2);
	CHECK(*(uint32_t *)second.plugged == PLUGGED_VALUE);
	destroy(&second);
	CHECK(munmap(first.ram, RAM_SIZE) == 0 && munmap(first.plugged, PLUGGED_SIZE) == 0);
	CHECK(munmap(first.rom, ROM_SIZE) == 0);
	puts("all goes on in another VM");
}

static void on_signal(int signal)
{
	(void)signal;
	if (run_of_thread)
		run_of_thread->immediate_exit = 1;
}

int main(int argc, char **argv)
{
	static const int wanted[] = {
		KVM_CAP_IRQCHIP, KVM_CAP_USER_MEMORY, KVM_CAP_SET_TSS_ADDR, KVM_CAP_EXT_CPUID,
		KVM_CAP_MP_STATE, KVM_CAP_USER_NMI, KVM_CAP_IRQ_ROUTING, KVM_CAP_IRQFD,
		KVM_CAP_IOEVENTFD, KVM_CAP_SET_IDENTITY_MAP_ADDR, KVM_CAP_ADJUST_CLOCK,
		KVM_CAP_VCPU_EVENTS, KVM_CAP_XSAVE, KVM_CAP_GET_TSC_KHZ,
		KVM_CAP_TSC_DEADLINE_TIMER, KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_IMMEDIATE_EXIT,
	};
	struct sigaction action = { .sa_handler = on_signal };
	CHECK(sigaction(SIGRTMIN, &action, NULL) == 0);

	int kvm = kvm_open(argc, argv);
	CHECK(ioctl(kvm, KVM_GET_API_VERSION, 0) == KVM_API_VERSION);
	boot_check_capabilities(kvm, wanted, sizeof wanted / sizeof *wanted);
	for (enum memory kind = PRIVATE; kind <= LARGE; kind++)
		live(kvm, kind);
	return 0;
}
