/*
 * destroy DEVICE ROUNDS SEED: ends VMs while everything is under way. In each round a process runs
 * two vCPUs, signals irqfds and replaces the GSI routing, all at once; then it is killed, or exits,
 * or executes another program, or closes its descriptors. Says how many rounds there were.
 */
#define _GNU_SOURCE
#include "guest.h"
#include "vm.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

GUEST(signalling_guest);
GUEST(busy_guest);
GUEST(line_handler);

#define RAM_SIZE 0x100000
#define SIGNALLING_CODE 0x1000
#define BUSY_CODE 0x1400
#define HANDLER_CODE 0x1800
#define PORT 0x10
#define MMIO 0x200000
#define EDGE_GSI 4
#define LEVEL_GSI 5
#define FIRST_VECTOR 0x20
#define VCPUS 2
#define SPINS 20000 /* at most, before the end */

enum end { KILLED, EXITS, EXECUTES, CLOSES, ENDS };

struct life {
	int vm;
	struct vcpu vcpus[VCPUS];
	int edge, level, resample; /* eventfds of interrupt lines */
	int port, mmio;            /* ioeventfds */
	atomic_bool over;
};

static int new_eventfd(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	CHECK(fd >= 0);
	return fd;
}

/* Until the VM is over: then calls may fail as they like. */
static bool goes_on(struct life *life, int result)
{
	bool over = atomic_load(&life->over);
	CHECK(result >= 0 || over || errno == EINTR);
	return !over;
}

static void *run(void *argument)
{
	struct life *life = argument;
	static atomic_int next;
	const struct vcpu *vcpu = &life->vcpus[atomic_fetch_add(&next, 1)];
	while (goes_on(life, ioctl(vcpu->fd, KVM_RUN, 0)))
		;
	return NULL;
}

static void *fire(void *argument)
{
	struct life *life = argument;
	uint64_t one = 1;
	do {
		(void)!write(life->edge, &one, sizeof one);
		(void)!write(life->level, &one, sizeof one);
	} while (!atomic_load(&life->over));
	return NULL;
}

static void *route(void *argument)
{
	struct life *life = argument;
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entries[3];
	} table = { .head.nr = 3 };
	struct kvm_irq_routing_entry *edge = &table.entries[2];
	for (int i = 0; i < 2; i++) {
		table.entries[i].gsi = LEVEL_GSI;
		table.entries[i].type = KVM_IRQ_ROUTING_IRQCHIP;
		table.entries[i].u.irqchip.irqchip = i ? KVM_IRQCHIP_IOAPIC : KVM_IRQCHIP_PIC_MASTER;
		table.entries[i].u.irqchip.pin = LEVEL_GSI;
	}
	edge->gsi = EDGE_GSI;
	do {
		bool by_message = edge->type != KVM_IRQ_ROUTING_MSI;
		memset(&edge->u, 0, sizeof edge->u);
		edge->type = by_message ? KVM_IRQ_ROUTING_MSI : KVM_IRQ_ROUTING_IRQCHIP;
		if (by_message) {
			edge->u.msi.address_lo = 0xfee00000;
			edge->u.msi.data = FIRST_VECTOR + EDGE_GSI;
		} else {
			edge->u.irqchip.irqchip = KVM_IRQCHIP_PIC_MASTER;
			edge->u.irqchip.pin = EDGE_GSI;
		}
	} while (goes_on(life, ioctl(life->vm, KVM_SET_GSI_ROUTING, &table)));
	return NULL;
}

static void load(uint8_t *ram)
{
	LOAD_GUEST(ram + SIGNALLING_CODE, signalling_guest);
	LOAD_GUEST(ram + BUSY_CODE, busy_guest);
	LOAD_GUEST(ram + HANDLER_CODE, line_handler);
	for (int line = 0; line < 8; line++) {
		uint16_t entry[2] = { HANDLER_CODE, 0 };
		memcpy(ram + 4 * (FIRST_VECTOR + line), entry, sizeof entry);
	}
}

static void connect(struct life *life)
{
	struct kvm_irqfd edge = { .fd = life->edge, .gsi = EDGE_GSI };
	struct kvm_irqfd level = {
		.fd = life->level,
		.gsi = LEVEL_GSI,
		.flags = KVM_IRQFD_FLAG_RESAMPLE,
		.resamplefd = life->resample,
	};
	struct kvm_ioeventfd port = {
		.addr = PORT,
		.len = 1,
		.fd = life->port,
		.flags = KVM_IOEVENTFD_FLAG_PIO,
	};
	struct kvm_ioeventfd mmio = { .addr = MMIO, .len = 4, .fd = life->mmio };
	CHECK(ioctl(life->vm, KVM_IRQFD, &edge) == 0);
	CHECK(ioctl(life->vm, KVM_IRQFD, &level) == 0);
	CHECK(ioctl(life->vm, KVM_IOEVENTFD, &port) == 0);
	CHECK(ioctl(life->vm, KVM_IOEVENTFD, &mmio) == 0);
}

static void begin(struct life *life, int kvm)
{
	life->vm = vm_create(kvm);
	CHECK(ioctl(life->vm, KVM_CREATE_IRQCHIP, 0) == 0);
	struct kvm_pit_config pit = { 0 };
	CHECK(ioctl(life->vm, KVM_CREATE_PIT2, &pit) == 0);
	uint8_t *ram = ram_map(RAM_SIZE);
	load(ram);
	vm_set_memory(life->vm, 0, 0, ram, RAM_SIZE);
	static const uint16_t code[VCPUS] = { SIGNALLING_CODE, BUSY_CODE };
	for (int i = 0; i < VCPUS; i++) {
		struct kvm_mp_state runnable = { KVM_MP_STATE_RUNNABLE };
		life->vcpus[i] = vcpu_create(kvm, life->vm, i);
		CHECK(ioctl(life->vcpus[i].fd, KVM_SET_MP_STATE, &runnable) == 0);
		vcpu_enter_real_mode(&life->vcpus[i], code[i]);
	}
	int *eventfds[] = { &life->edge, &life->level, &life->resample, &life->port, &life->mmio };
	for (size_t i = 0; i < sizeof eventfds / sizeof *eventfds; i++)
		*eventfds[i] = new_eventfd();
	connect(life);
}

static void spin(unsigned *seed)
{
	for (volatile int spins = rand_r(seed) % SPINS; spins > 0; spins--)
		;
}

/* All descriptors of the VM, in any order, while its threads use them. */
static void close_all(struct life *life, unsigned *seed)
{
	int fds[] = { life->vm,       life->vcpus[0].fd, life->vcpus[1].fd, life->edge,
		      life->resample, life->level,       life->port,        life->mmio };
	enum { COUNT = sizeof fds / sizeof *fds };
	for (int left = COUNT; left > 0; left--) {
		int chosen = rand_r(seed) % left;
		CHECK(close(fds[chosen]) == 0);
		fds[chosen] = fds[left - 1];
		spin(seed);
	}
}

_Noreturn static void live(const char *device, enum end end, unsigned seed, int ready)
{
	char *arguments[] = { "destroy", (char *)device };
	struct life *life = calloc(1, sizeof *life);
	void *(*const works[])(void *) = { run, run, fire, route };
	begin(life, kvm_open(2, arguments));
	for (size_t i = 0; i < sizeof works / sizeof *works; i++) {
		pthread_t thread;
		CHECK(!pthread_create(&thread, NULL, works[i], life));
	}
	uint64_t count;
	while (read(life->mmio, &count, sizeof count) < 0)
		sched_yield();
	CHECK(write(ready, ".", 1) == 1);
	if (end == KILLED)
		for (;;)
			pause();
	spin(&seed);
	atomic_store(&life->over, true);
	if (end == CLOSES)
		close_all(life, &seed);
	if (end == EXECUTES)
		execl("/bin/true", "true", NULL);
	_exit(0);
}

static void one_round(const char *device, enum end end, unsigned seed)
{
	int ready[2];
	CHECK(pipe(ready) == 0);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		close(ready[0]);
		live(device, end, seed, ready[1]);
	}
	close(ready[1]);
	char said;
	CHECK(read(ready[0], &said, 1) == 1);
	close(ready[0]);
	if (end == KILLED) {
		spin(&seed);
		CHECK(kill(child, SIGKILL) == 0);
	}
	int status;
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(end == KILLED ? WIFSIGNALED(status) : WIFEXITED(status) && !WEXITSTATUS(status));
}

int main(int argc, char **argv)
{
	CHECK(argc == 4);
	int rounds = atoi(argv[2]);
	unsigned seed = atoi(argv[3]);
	for (int i = 0; i < rounds; i++)
		one_round(argv[1], rand_r(&seed) % ENDS, seed);
	printf("%d rounds\n", rounds);
	return 0;
}
