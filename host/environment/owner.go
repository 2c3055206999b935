// SPDX-License-Identifier: Apache-2.0

package environment

import "context"

type ownerKey struct{}

// WithOwner returns a context whose calls are those of an identity: what they make is
// its own, and of what others have made they see nothing. The calls of a context
// without one are the operator's, who sees everything.
func WithOwner(ctx context.Context, identity string) context.Context {
	return context.WithValue(ctx, ownerKey{}, identity)
}

// Owner is the identity that calls with ctx are of, or "" for the operator.
func Owner(ctx context.Context) string {
	identity, _ := ctx.Value(ownerKey{}).(string)
	return identity
}

// owns says whether calls with ctx see what belongs to owner.
func owns(ctx context.Context, owner string) bool {
	identity := Owner(ctx)
	return identity == "" || identity == owner
}
