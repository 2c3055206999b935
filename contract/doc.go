// SPDX-License-Identifier: Apache-2.0

// Package contract holds what every guestd promises (waggle.guest.v1) as a table
// of scenarios over the generated clients. One table runs against guestd in the
// test's own process, as a plain process in namespaces of its own, and as the
// owner of a real machine; only tests import it. A scenario asks for nothing but
// what a client can see, so it also holds another implementation to the contract.
package contract
