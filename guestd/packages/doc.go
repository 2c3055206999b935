// SPDX-License-Identifier: Apache-2.0

// Package packages implements waggle.guest.v1.Packages. A manager runs as an
// exec of the Process service, as root, so that it has a control group, a
// timeout and an end for certain; its lines are passed on as they come.
package packages
