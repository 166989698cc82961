"""MSR numbers, by the names of `arch/x86/include/asm/msr-index.h`."""

from typing import Final

MSR_IA32_TSC: Final = 0x10
MSR_IA32_APICBASE: Final = 0x1B
MSR_IA32_APICBASE_BSP: Final = 1 << 8
X2APIC_ENABLE: Final = 1 << 10
MSR_IA32_APICBASE_ENABLE: Final = 1 << 11

MSR_IA32_MCG_CAP: Final = 0x179
MSR_IA32_MCG_STATUS: Final = 0x17A
MSR_IA32_MCG_CTL: Final = 0x17B
MSR_IA32_MC0_CTL2: Final = 0x280
MSR_IA32_MC0_CTL: Final = 0x400

MSR_EFER: Final = 0xC000_0080
EFER_LME: Final = 1 << 8
EFER_LMA: Final = 1 << 10
