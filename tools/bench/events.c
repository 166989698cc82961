/*
 * How fast an event goes through a guest: irqfd, handler of the guest, ioeventfd, and back to the
 * client, which never leaves KVM_RUN. Beside it the same with no guest: another process reads one
 * eventfd and writes the other.
 *
 * Usage: events DEVICE ROUNDS
 * Prints one "name value" line per figure: medians over ROUNDS interleaved rounds.
 */
#include "vm.h"

#include <err.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define RAM_SIZE 0x10000
#define CODE 0x1000
#define READY_PORT 0x80
#define DONE_PORT 0x10
#define GSI 5
#define VECTOR 0x41
#define MSI_ADDRESS 0xfee00000

#define TRIPS 500 /* per round */
#define MAX_ROUNDS 1000

extern const uint8_t event_guest[], event_handler[], event_guest_end[];

struct pair {
	int ask, answer;
};

static double now_us(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e6 + time.tv_nsec * 1e-3;
}

static struct pair eventfds(void)
{
	struct pair pair = {eventfd(0, 0), eventfd(0, 0)};

	CHECK(pair.ask >= 0 && pair.answer >= 0);
	return pair;
}

/* Another process that answers whatever is asked. */
static struct pair start_echo(void)
{
	struct pair pair = eventfds();
	eventfd_t count;
	pid_t child = fork();

	CHECK(child >= 0);
	if (child > 0)
		return pair;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (eventfd_read(pair.ask, &count) == 0)
		eventfd_write(pair.answer, 1);
	_exit(1);
}

static void route_to_message(int vm)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entry;
	} table = {
		.head.nr = 1,
		.entry = {
			.gsi = GSI,
			.type = KVM_IRQ_ROUTING_MSI,
			.u.msi = {.address_lo = MSI_ADDRESS, .data = VECTOR},
		},
	};

	CHECK(ioctl(vm, KVM_SET_GSI_ROUTING, &table) == 0);
}

static void *run_guest(void *vcpu)
{
	for (;;)
		errx(1, "the guest has left: exit %u", vcpu_run(vcpu));
}

/* A guest that answers whatever is asked. */
static struct pair start_guest(int kvm)
{
	static struct vcpu vcpu;
	struct pair pair = eventfds();
	int vm = vm_create(kvm);
	uint8_t *ram = ram_map(RAM_SIZE);
	uint16_t handler[2] = {CODE + (event_handler - event_guest), 0};
	struct kvm_irqfd irqfd = {.fd = pair.ask, .gsi = GSI};
	struct kvm_ioeventfd done = {
		.addr = DONE_PORT,
		.len = 1,
		.fd = pair.answer,
		.flags = KVM_IOEVENTFD_FLAG_PIO,
	};
	pthread_t thread;

	CHECK(ioctl(vm, KVM_CREATE_IRQCHIP) == 0);
	vm_set_memory(vm, 0, 0, ram, RAM_SIZE);
	memcpy(ram + CODE, event_guest, event_guest_end - event_guest);
	memcpy(ram + 4 * VECTOR, handler, sizeof(handler));
	route_to_message(vm);
	CHECK(ioctl(vm, KVM_IRQFD, &irqfd) == 0);
	CHECK(ioctl(vm, KVM_IOEVENTFD, &done) == 0);
	vcpu = vcpu_create(kvm, vm, 0);
	vcpu_enter_real_mode(&vcpu, CODE);
	CHECK(vcpu_run(&vcpu) == KVM_EXIT_IO && vcpu.run->io.port == READY_PORT);
	CHECK(pthread_create(&thread, NULL, run_guest, &vcpu) == 0);
	return pair;
}

static double time_trips(struct pair pair)
{
	double begin = now_us();
	eventfd_t count;

	for (int trip = 0; trip < TRIPS; trip++) {
		CHECK(eventfd_write(pair.ask, 1) == 0);
		CHECK(eventfd_read(pair.answer, &count) == 0);
	}
	return (now_us() - begin) / TRIPS;
}

static int compare(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return (a > b) - (a < b);
}

static double median(double *values, int count)
{
	qsort(values, count, sizeof(*values), compare);
	return values[count / 2];
}

int main(int argc, char **argv)
{
	static double guests[MAX_ROUNDS], echoes[MAX_ROUNDS], ratios[MAX_ROUNDS];
	int rounds = argc == 3 ? atoi(argv[2]) : 0;

	if (rounds < 1 || rounds > MAX_ROUNDS)
		errx(2, "usage: events DEVICE ROUNDS");
	struct pair echo = start_echo();
	struct pair guest = start_guest(kvm_open(argc, argv));

	for (int round = 0; round < rounds; round++) {
		guests[round] = time_trips(guest);
		echoes[round] = time_trips(echo);
		ratios[round] = guests[round] / echoes[round];
	}
	printf("guest_us %.2f\n", median(guests, rounds));
	printf("echo_us %.2f\n", median(echoes, rounds));
	printf("guest_per_echo %.3f\n", median(ratios, rounds));
	return 0;
}
