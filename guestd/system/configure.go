// SPDX-License-Identifier: Apache-2.0

//go:build linux

package system

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"regexp"
	"strings"

	"connectrpc.com/connect"

	"github.com/stacklok/waggle/guestd/boot"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	maxNameservers = 3
	maxSearch      = 6
	defaultMTU     = 1500
	maxVariables   = 1000
	maxBundle      = 4 << 20 // bytes
)

var (
	hostnamePattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)
	domainPattern   = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,253}$`)
)

// Configure checks the whole request before it changes anything. What fails
// after that leaves the steps before it done; the call may be made again.
func (s *Service) Configure(
	_ context.Context, req *connect.Request[guestv1.SystemConfigureRequest],
) (*connect.Response[guestv1.SystemConfigureResponse], error) {
	m, msg := s.cfg.Machine, req.Msg
	s.configuring.Lock()
	defer s.configuring.Unlock()
	if m == nil {
		if err := withoutMachine(msg); err != nil {
			return nil, connect.NewError(connect.CodeFailedPrecondition, err)
		}
	}
	plan, err := s.check(msg)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	// The clock first: what follows leaves its time on files.
	if msg.GetClock() != nil {
		if err := m.SetClock(msg.GetClock().AsTime()); err != nil {
			return nil, err
		}
	}
	for _, step := range plan {
		if err := step(m); err != nil {
			return nil, connect.NewError(connect.CodeInternal, err)
		}
	}
	return connect.NewResponse(&guestv1.SystemConfigureResponse{}), nil
}

// step changes one thing of the machine or of guestd. m is nil where the request
// passed withoutMachine.
type step func(m *boot.Machine) error

// withoutMachine checks that a request asks only for what guestd may do that owns
// no machine: what it keeps in its own memory. An error names the field.
func withoutMachine(msg *guestv1.SystemConfigureRequest) error {
	for _, field := range []struct {
		name string
		set  bool
	}{
		{"clock", msg.GetClock() != nil},
		{"hostname", msg.Hostname != nil},
		{"network", msg.GetNetwork() != nil},
		{"ca_bundle_pem", msg.CaBundlePem != nil},
	} {
		if field.set {
			return fmt.Errorf("%s: %w", field.name, errNotFirst)
		}
	}
	if msg.GetUser() == nil {
		return nil
	}
	return checkOwnUser(msg.GetUser())
}

// check returns the steps of a request. An error names the field.
func (s *Service) check(msg *guestv1.SystemConfigureRequest) ([]step, error) {
	var plan []step
	if clock := msg.GetClock(); clock != nil && !clock.IsValid() {
		return nil, fmt.Errorf("clock: %w", clock.CheckValid())
	}
	if msg.Hostname != nil {
		if !hostnamePattern.MatchString(msg.GetHostname()) {
			return nil, fmt.Errorf("hostname: %q is not a DNS label of at most 63 characters", msg.GetHostname())
		}
		plan = append(plan, func(m *boot.Machine) error { return setNames(m, msg.GetHostname()) })
	}
	if msg.GetNetwork() != nil {
		network, resolv, err := checkNetwork(msg.GetNetwork())
		if err != nil {
			return nil, err
		}
		plan = append(plan, func(m *boot.Machine) error {
			if err := m.SetNetwork(network); err != nil {
				return err
			}
			return m.WriteFile("/etc/resolv.conf", []byte(resolv), 0o644)
		})
	}
	if bundle := msg.GetCaBundlePem(); len(bundle) > 0 {
		certs, err := parseBundle(bundle)
		if len(bundle) > maxBundle || err != nil {
			return nil, fmt.Errorf("ca_bundle_pem: want at most %d bytes of PEM certificates: %w", maxBundle, err)
		}
		plan = append(plan, func(m *boot.Machine) error { return s.addTrust(m, certs) })
	}
	if msg.GetUser() != nil {
		user, err := checkUser(msg.GetUser())
		if err != nil {
			return nil, err
		}
		plan = append(plan, func(m *boot.Machine) error {
			name := user.name
			if m != nil {
				var err error
				if name, err = makeWorkload(m, user); err != nil {
					return err
				}
			}
			s.cfg.Defaults.SetUser(name)
			return nil
		})
	}
	if env := msg.GetEnv(); env != nil {
		if err := checkEnv(env.GetVariables()); err != nil {
			return nil, err
		}
		plan = append(plan, func(*boot.Machine) error {
			s.env = maps.Clone(env.GetVariables())
			s.applyEnv()
			return nil
		})
	}
	if msg.Cwd != nil {
		if cwd := msg.GetCwd(); cwd != "" && !path.IsAbs(cwd) || strings.ContainsRune(cwd, 0) {
			return nil, fmt.Errorf("cwd: %q is not an absolute path", cwd)
		}
		plan = append(plan, func(m *boot.Machine) error {
			if m != nil && msg.GetCwd() != "" {
				if err := makeCwd(m, msg.GetCwd(), s.cfg.Defaults.User()); err != nil {
					return err
				}
			}
			s.cfg.Defaults.SetCwd(msg.GetCwd())
			return nil
		})
	}
	if msg.GetResults() != nil {
		keep, err := checkResults(msg.GetResults())
		if err != nil {
			return nil, err
		}
		plan = append(plan, func(*boot.Machine) error {
			s.cfg.Execs.Keep(keep.age, keep.count, keep.bytes)
			return nil
		})
	}
	return plan, nil
}

func checkEnv(env map[string]string) error {
	if len(env) > maxVariables {
		return fmt.Errorf("env: has %d variables, at most %d are allowed", len(env), maxVariables)
	}
	for name, value := range env {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.ContainsRune(value, 0) {
			return fmt.Errorf("env: variable %q is empty, holds '=' or a NUL", name)
		}
	}
	return nil
}

// applyEnv hands the variables to the execs that start from now on: those that
// lead programs to the trusted certificates, and over them the configured ones.
func (s *Service) applyEnv() {
	all := maps.Clone(s.trustEnv)
	if all == nil {
		all = make(map[string]string)
	}
	maps.Copy(all, s.env)
	s.cfg.Defaults.SetEnv(all)
}

// setNames sets the host name and the files that resolve it.
func setNames(m *boot.Machine, name string) error {
	if err := m.SetHostname(name); err != nil {
		return err
	}
	if err := m.WriteFile("/etc/hostname", []byte(name+"\n"), 0o644); err != nil {
		return err
	}
	hosts := "127.0.0.1 localhost\n127.0.1.1 " + name + "\n::1 localhost ip6-localhost ip6-loopback\n"
	return m.WriteFile("/etc/hosts", []byte(hosts), 0o644)
}

// checkNetwork returns the setting of the card and the text of resolv.conf(5).
func checkNetwork(n *guestv1.NetworkConfig) (boot.Network, string, error) {
	var none boot.Network
	address, err := netip.ParsePrefix(n.GetAddress())
	if err != nil || !address.Addr().Is4() {
		return none, "", fmt.Errorf("network.address: %q is not an IPv4 address with prefix length", n.GetAddress())
	}
	gateway, err := netip.ParseAddr(n.GetGateway())
	if err != nil || !address.Contains(gateway) {
		return none, "", fmt.Errorf("network.gateway: %q is not an address in %s", n.GetGateway(), address.Masked())
	}
	mtu := int(n.GetMtu())
	if mtu == 0 {
		mtu = defaultMTU
	}
	if mtu < 576 || mtu > 65535 {
		return none, "", fmt.Errorf("network.mtu: %d is not within 576 to 65535", mtu)
	}
	if len(n.GetNameservers()) > maxNameservers {
		return none, "", fmt.Errorf("network.nameservers: at most %d are allowed", maxNameservers)
	}
	if len(n.GetSearchDomains()) > maxSearch {
		return none, "", fmt.Errorf("network.search_domains: at most %d are allowed", maxSearch)
	}
	var resolv strings.Builder
	for _, server := range n.GetNameservers() {
		// A zone may be any text, also one with line ends.
		if addr, err := netip.ParseAddr(server); err != nil || addr.Zone() != "" {
			return none, "", fmt.Errorf("network.nameservers: %q is not an IP address without a zone", server)
		}
		resolv.WriteString("nameserver " + server + "\n")
	}
	for _, domain := range n.GetSearchDomains() {
		if !domainPattern.MatchString(domain) {
			return none, "", fmt.Errorf("network.search_domains: %q is not a domain", domain)
		}
	}
	if len(n.GetSearchDomains()) > 0 {
		resolv.WriteString("search " + strings.Join(n.GetSearchDomains(), " ") + "\n")
	}
	return boot.Network{Address: address, Gateway: gateway, MTU: mtu}, resolv.String(), nil
}
