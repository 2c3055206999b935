// SPDX-License-Identifier: Apache-2.0

package prepare

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxModule bounds one uncompressed module.
const maxModule = 64 << 20

// module is one kernel module, uncompressed and without its signature.
type module struct {
	name string
	data []byte
}

// moduleRoot: Debian has /lib in bookworm's packages and /usr/lib in later ones.
func moduleRoot(tree, version string) string {
	root := filepath.Join(tree, "lib", "modules", version)
	if _, err := os.Stat(root); err == nil {
		return root
	}
	return filepath.Join(tree, "usr", "lib", "modules", version)
}

// selectModules returns wanted and all that they depend on, each after its own
// dependencies. The order comes from the modules' .modinfo: modules.dep exists
// only once a package has been installed.
func selectModules(root string, wanted []string) ([]module, error) {
	s, err := newSelection(root)
	if err != nil {
		return nil, err
	}
	for _, name := range wanted {
		if err := s.add(name); err != nil {
			return nil, err
		}
	}
	return s.order, nil
}

type selection struct {
	paths   map[string]string // module name to file
	builtin map[string]bool
	state   map[string]bool // false: being visited; true: in order
	order   []module
}

func newSelection(root string) (*selection, error) {
	s := &selection{paths: make(map[string]string), builtin: make(map[string]bool), state: make(map[string]bool)}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && strings.Contains(entry.Name(), ".ko") && entry.Type().IsRegular() {
			s.paths[moduleName(entry.Name())] = path
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list modules: %w", err)
	}
	list, err := os.ReadFile(filepath.Join(root, "modules.builtin"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list built-in modules: %w", err)
	}
	for line := range strings.Lines(string(list)) {
		s.builtin[moduleName(filepath.Base(strings.TrimSpace(line)))] = true
	}
	return s, nil
}

// add is a depth-first walk: a module goes to the list after what it needs.
func (s *selection) add(name string) error {
	name = moduleName(name)
	if done, seen := s.state[name]; seen {
		if !done {
			return fmt.Errorf("module %s depends on itself", name)
		}
		return nil
	}
	if s.builtin[name] {
		return nil
	}
	path, ok := s.paths[name]
	if !ok {
		return fmt.Errorf("kernel has no module %s, neither built in", name)
	}
	s.state[name] = false
	data, err := readModule(path)
	if err != nil {
		return fmt.Errorf("read module %s: %w", name, err)
	}
	info, err := parseModinfo(data)
	if err != nil {
		return fmt.Errorf("read module %s: %w", name, err)
	}
	for _, dep := range info.depends {
		if err := s.add(dep); err != nil {
			return err
		}
	}
	s.state[name] = true
	s.order = append(s.order, module{name: name, data: data})
	return nil
}

// moduleName is the kernel's name for a file: no directory, no suffix, and
// underscores, whichever the file has.
func moduleName(file string) string {
	name, _, _ := strings.Cut(file, ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func readModule(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r io.Reader = bytes.NewReader(raw)
	switch filepath.Ext(path) {
	case ".ko":
	case ".xz":
		r, err = xz.NewReader(r)
	case ".gz":
		r, err = gzip.NewReader(r)
	case ".zst":
		var z *zstd.Decoder
		z, err = zstd.NewReader(r, zstd.WithDecoderMaxMemory(maxModule))
		if err == nil {
			defer z.Close()
			r = z
		}
	default:
		return nil, fmt.Errorf("unknown module compression %q", filepath.Ext(path))
	}
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r, maxModule))
	if err != nil {
		return nil, err
	}
	return stripSignature(data)
}
