/*
 * What every client here does before its own subject starts: open the device, make a VM with
 * memory, make a vCPU with its kvm_run mapped. Nothing here knows kvmshim but `kvm_open`, which
 * exits with 77 if KVMSHIM_EXPECT=1 is set and something else answers.
 *
 * All functions end the program with a message and status 1 where a call fails.
 */
#ifndef KVMSHIM_TESTS_CLIENTS_VM_H
#define KVMSHIM_TESTS_CLIENTS_VM_H

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

#define CHECK(condition)                                                                           \
	((condition) ? (void)0 : check_failed(#condition, __FILE__, __LINE__))

struct vcpu {
	int fd;
	size_t run_size; /* bytes mapped at `run` */
	struct kvm_run *run;
};

_Noreturn void check_failed(const char *condition, const char *file, int line);

/* The system fd of argv[1], or of /dev/kvm. */
int kvm_open(int argc, char **argv);

int vm_create(int kvm);

/* `size` bytes of zeroed private anonymous memory. */
uint8_t *ram_map(size_t size);

void vm_set_memory(int vm, uint32_t slot, uint64_t gpa, void *host, uint64_t size);

struct vcpu vcpu_create(int kvm, int vm, unsigned id);

/* Unmaps kvm_run and closes the fd. */
void vcpu_destroy(struct vcpu *vcpu);

/* Real mode, all segments at 0 with 4 GiB data limits, IP = `ip`, other registers 0. */
void vcpu_enter_real_mode(const struct vcpu *vcpu, uint16_t ip);

struct kvm_regs vcpu_get_regs(const struct vcpu *vcpu);
void vcpu_set_regs(const struct vcpu *vcpu, const struct kvm_regs *regs);

/* One KVM_RUN; its exit reason. */
uint32_t vcpu_run(const struct vcpu *vcpu);

/* The first four bytes of the data of the port exit that KVM_RUN just reported. */
uint32_t vcpu_io_value(const struct vcpu *vcpu);

#endif
