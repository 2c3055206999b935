// SPDX-License-Identifier: Apache-2.0

// Package vmm is what the backends have in common around the process that runs a
// machine: how it is started so that it cannot outlive its starter (Spawn), as
// whom it runs (Credential, Identity), whether the hypervisor works (ProbeKVM),
// and a cache of the files that machines are made of (Cache). It knows no VMM.
package vmm
