/*
 * A thread in KVM_RUN that pthread_cancel ends at any moment, for tests in Python: a thread of the
 * interpreter cannot be ended so.
 */
#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>

static void *execute(void *argument)
{
	int vcpu = (intptr_t)argument;

	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	ioctl(vcpu, KVM_RUN, 0);
	return NULL;
}

/* Has a thread call KVM_RUN; its number in `thread`. */
bool cancellable_begin(int vcpu, uint64_t *thread)
{
	pthread_t made;

	if (pthread_create(&made, NULL, execute, (void *)(intptr_t)vcpu) != 0)
		return false;
	*thread = made;
	return true;
}

/* Ends the thread; false where it had left KVM_RUN before. */
bool cancellable_end(uint64_t thread)
{
	void *result;

	if (pthread_cancel(thread) != 0 || pthread_join(thread, &result) != 0)
		return false;
	return result == PTHREAD_CANCELED;
}
