// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"
	"go.podman.io/storage/pkg/configfile"
)

// builtIn is what applies where the host has no policy.json: what the packages of
// podman and skopeo install.
const builtIn = `{"default":[{"type":"insecureAcceptAnything"}]}`

// Policy says which images may be used, as containers-policy.json(5) has it.
type Policy struct {
	// Path is the policy.json, empty for the built-in default.
	Path string

	policy *signature.Policy
	raw    []byte
}

// LoadPolicy reads the policy at path, or with an empty path the host's
// (CONTAINERS_POLICY_JSON, the user's, the system's), or takes the built-in one
// where there is none. A policy that cannot be read is an error, never the default.
func LoadPolicy(path string) (*Policy, error) { return loadPolicy(path, "") }

// loadPolicy looks for the system's files below root.
func loadPolicy(path, root string) (*Policy, error) {
	p := &Policy{raw: []byte(builtIn)}
	files := configfile.File{
		Name: "policy", Extension: "json", DoNotLoadDropInFiles: true, ErrorIfNotFound: true,
		CustomConfigFilePath: path, EnvironmentName: "CONTAINERS_POLICY_JSON", RootForImplicitAbsolutePaths: root,
	}
	for item, err := range configfile.Read(&files) {
		if errors.Is(err, configfile.ErrConfigFileNotFound) && path == "" {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read signature policy: %w", err)
		}
		p.Path = item.Name
		if p.raw, err = io.ReadAll(item.Reader); err != nil {
			return nil, fmt.Errorf("read signature policy %s: %w", p.Path, err)
		}
	}
	var err error
	if p.policy, err = signature.NewPolicyFromBytes(p.raw); err != nil {
		return nil, fmt.Errorf("read signature policy %s: %w", p.Path, err)
	}
	return p, nil
}

// String tells people which policy it is and what it asks of an image that it does not
// name.
func (p *Policy) String() string {
	scopes := 0
	for _, s := range p.policy.Transports {
		scopes += len(s)
	}
	from := p.Path
	if from == "" {
		from = "built-in, there is no policy.json"
	}
	out := fmt.Sprintf("%s: any image needs %s", from, describe(p.policy.Default))
	if scopes > 0 {
		out += fmt.Sprintf(", but for %d scopes with rules of their own", scopes)
	}
	return out
}

func describe(reqs signature.PolicyRequirements) string {
	words := make([]string, len(reqs))
	for i, r := range reqs {
		words[i] = requirement(r)
	}
	return strings.Join(words, " and ")
}

// requirement is one requirement in the words of policy.json, with the files that hold
// its keys.
func requirement(r signature.PolicyRequirement) string {
	var known struct {
		Type     string   `json:"type"`
		KeyPath  string   `json:"keyPath"`
		KeyPaths []string `json:"keyPaths"`
	}
	raw, err := json.Marshal(r)
	if err == nil {
		err = json.Unmarshal(raw, &known)
	}
	if err != nil {
		return fmt.Sprintf("%T", r)
	}
	if keys := append(known.KeyPaths, known.KeyPath); keys[0] != "" {
		return fmt.Sprintf("%s (key %s)", known.Type, strings.Trim(strings.Join(keys, " or "), " or"))
	}
	return known.Type
}

// mark identifies the policy. The store keeps it with an image that the policy has
// accepted: signatures are not kept, so under another policy the registry is asked again.
func (p *Policy) mark() string { return digest.FromBytes(p.raw).String() }

// scope returns what ref has to fulfil, and the name of the scope that says so.
func (p *Policy) scope(ref types.ImageReference) (signature.PolicyRequirements, string) {
	transport := ref.Transport().Name()
	scopes, ok := p.policy.Transports[transport]
	if !ok {
		return p.policy.Default, "default"
	}
	for _, name := range append([]string{ref.PolicyConfigurationIdentity()}, ref.PolicyConfigurationNamespaces()...) {
		if reqs, ok := scopes[name]; ok {
			return reqs, transport + " " + name
		}
	}
	if reqs, ok := scopes[""]; ok {
		return reqs, transport
	}
	return p.policy.Default, "default"
}

// check returns nil for an image that the policy accepts. The error wraps ErrPolicy and
// says which requirement of which scope and file failed.
func (p *Policy) check(ctx context.Context, image types.UnparsedImage) error {
	whole, err := allows(ctx, p.policy, image)
	if whole {
		return nil
	}
	reqs, scope := p.scope(image.Reference())
	for i, r := range reqs { // all are needed: name the first that fails
		one := &signature.Policy{Default: signature.PolicyRequirements{r}}
		if ok, oneErr := allows(ctx, one, image); !ok {
			err = fmt.Errorf("requirement %d of %d, %s: %w%s", i+1, len(reqs), requirement(r), oneErr, hint(r, oneErr))
			break
		}
	}
	path := p.Path
	if path == "" {
		path = "the built-in policy"
	}
	return fmt.Errorf("%w: %s, scope %q, %w", ErrPolicy, path, scope, err)
}

func allows(ctx context.Context, policy *signature.Policy, image types.UnparsedImage) (ok bool, err error) {
	pc, err := signature.NewPolicyContext(policy)
	if err != nil {
		return false, fmt.Errorf("use signature policy: %w", err)
	}
	defer func() { err = errors.Join(err, pc.Destroy()) }()
	return pc.IsRunningImageAllowed(ctx, image)
}

// hint says why a signature that is there may not have been seen.
func hint(r signature.PolicyRequirement, err error) string {
	if strings.HasPrefix(requirement(r), "sigstoreSigned") && strings.Contains(err.Error(), "no signature exists") {
		return "; signatures beside the image in its registry are looked for only with `use-sigstore-attachments: true` in containers-registries.d(5)"
	}
	return ""
}
