// SPDX-License-Identifier: Apache-2.0

// Package filesystem implements waggle.guest.v1.Filesystem. Each step that the
// kernel checks rights for runs on a thread of its own that has the ids of the
// workload user and no capabilities; the thread ends with the step, so that no
// other work can inherit its identity.
package filesystem
