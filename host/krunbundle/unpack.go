// SPDX-License-Identifier: Apache-2.0

package krunbundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/stacklok/go-microvm/extract"
)

// maxFile bounds one file of an archive, in bytes. It is verified before, so this
// is about a pin of the wrong file.
const maxFile = 256 << 20

// unpack returns the files that are wanted of an archive. All else in it is left.
func unpack(a archive, content []byte) ([]extract.File, error) {
	zipped, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", a.name, err)
	}
	found := map[string]extract.File{}
	for in := tar.NewReader(zipped); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("unpack %s: %w", a.name, err)
		}
		name := path.Base(h.Name)
		as, wanted := a.files[name]
		if !wanted {
			continue
		}
		if h.Typeflag != tar.TypeReg || h.Size > maxFile {
			return nil, fmt.Errorf("unpack %s: %s is no file, or too large", a.name, h.Name)
		}
		data, err := io.ReadAll(in)
		if err != nil {
			return nil, fmt.Errorf("unpack %s: %w", a.name, err)
		}
		found[name] = extract.File{Name: as, Content: data, Mode: 0o644}
	}
	var files []extract.File
	for name := range a.files {
		f, ok := found[name]
		if !ok {
			return nil, fmt.Errorf("unpack %s: it has no %s", a.name, name)
		}
		files = append(files, f)
	}
	slices.SortFunc(files, func(x, y extract.File) int { return strings.Compare(x.Name, y.Name) })
	return files, nil
}
