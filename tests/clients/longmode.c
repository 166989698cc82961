/*
 * A guest in 64-bit mode under 4-level paging, entered there directly. It touches a page that is
 * not present, mends the mapping in its own #PF handler and goes on; then it reads and writes a
 * device at a guest-physical address without memory, which is answered here.
 *
 * Virtual memory: the first 2 MiB one to one; at 1 GiB one page that is not present, and after it
 * the device.
 */
#include "guest.h"
#include "vm.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define RAM_SIZE 0x200000
#define PML4 0x10000
#define PDPT 0x11000
#define PD_LOW 0x12000
#define PD_1GIB 0x13000
#define PT_1GIB 0x14000
#define DEVICE_GPA 0xd0000000

#define PRESENT 0x1
#define WRITE 0x2
#define LARGE 0x80

#define CR0_PE 0x1
#define CR0_PG 0x80000000
#define CR4_PAE 0x20
#define EFER_LME 0x100
#define EFER_LMA 0x400

/* What the guest must do, in this order. */
struct event {
	const char *what;
	uint64_t address; /* port or guest-physical address */
	uint64_t value;
};

static const struct event expected[] = {
	{ "out", 0x10, 0x40000128 },		      /* CR2 */
	{ "out", 0x10, 0x2 },			      /* error code: write, not present, supervisor */
	{ "out", 0x10, 0x600df00d },		      /* the retried store, read through another mapping */
	{ "out", 0x10, 0x60 },			      /* accessed and dirty in the mended entry */
	{ "mmio read", DEVICE_GPA + 0x08, 0xcafe0001 }, /* answered here */
	{ "mmio write", DEVICE_GPA + 0x10, 0xcafe0002 },
	{ "mmio write", DEVICE_GPA + 0x18, 0x1122334455667788 },
};

static void write_page_tables(uint8_t *ram)
{
	uint64_t *pml4 = (uint64_t *)(ram + PML4);
	uint64_t *pdpt = (uint64_t *)(ram + PDPT);
	pml4[0] = PDPT | PRESENT | WRITE;
	pdpt[0] = PD_LOW | PRESENT | WRITE;
	pdpt[1] = PD_1GIB | PRESENT | WRITE;
	((uint64_t *)(ram + PD_LOW))[0] = PRESENT | WRITE | LARGE;
	((uint64_t *)(ram + PD_1GIB))[0] = PT_1GIB | PRESENT | WRITE;
	((uint64_t *)(ram + PT_1GIB))[1] = DEVICE_GPA | PRESENT | WRITE;
}

static void enter_long_mode(const struct vcpu *vcpu)
{
	struct kvm_sregs sregs;
	CHECK(ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) == 0);
	sregs.cr3 = PML4;
	sregs.cr4 |= CR4_PAE;
	sregs.cr0 |= CR0_PE | CR0_PG;
	sregs.efer |= EFER_LME | EFER_LMA;

	struct kvm_segment flat = {
		.limit = 0xffffffff, .type = 3, .present = 1, .s = 1, .g = 1, .db = 1,
		.selector = 0x10,
	};
	sregs.ds = sregs.es = sregs.ss = flat;
	flat.type = 11;
	flat.selector = 0x08;
	flat.db = 0;
	flat.l = 1;
	sregs.cs = flat;
	CHECK(ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) == 0);

	struct kvm_regs regs = { .rip = GUEST_CODE, .rsp = 0x9000, .rflags = 2 };
	vcpu_set_regs(vcpu, &regs);
}

/* What the exit at hand was; a read of the device is answered. */
static struct event observe(const struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	if (run->exit_reason == KVM_EXIT_IO) {
		CHECK(run->io.direction == KVM_EXIT_IO_OUT);
		return (struct event){ "out", run->io.port, vcpu_io_value(vcpu) };
	}

	CHECK(run->exit_reason == KVM_EXIT_MMIO);
	struct event event = { "mmio write", run->mmio.phys_addr, 0 };
	if (!run->mmio.is_write) {
		event.what = "mmio read";
		memcpy(run->mmio.data, &(uint32_t){ 0xcafe0001 }, 4);
	}
	memcpy(&event.value, run->mmio.data, run->mmio.len);
	return event;
}

int main(int argc, char **argv)
{
	int kvm = kvm_open(argc, argv);
	int vm = vm_create(kvm);
	uint8_t *ram = ram_map(RAM_SIZE);
	LOAD_GUEST(ram + GUEST_CODE, longmode_guest);
	write_page_tables(ram);
	vm_set_memory(vm, 0, 0, ram, RAM_SIZE);
	struct vcpu vcpu = vcpu_create(kvm, vm, 0);
	enter_long_mode(&vcpu);

	for (unsigned i = 0; i < sizeof expected / sizeof *expected; i++) {
		vcpu_run(&vcpu);
		struct event event = observe(&vcpu);
		printf("%s 0x%" PRIx64 ": 0x%" PRIx64 "\n", event.what, event.address, event.value);
		CHECK(!strcmp(event.what, expected[i].what));
		CHECK(event.address == expected[i].address);
		CHECK(event.value == expected[i].value);
	}
	CHECK(vcpu_run(&vcpu) == KVM_EXIT_HLT);
	puts("the guest halted");
	return 0;
}
