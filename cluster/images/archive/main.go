// archive creates a container image with one layer from files, without a registry, and writes it as a docker-archive.
//
//	archive OUTPUT.tar NAME:TAG ENTRYPOINT FILE=PATH… LINK@TARGET… DIRECTORY/…
//
// FILE=PATH adds a file of this machine as the executable /PATH, LINK@TARGET adds a symbolic link, and DIRECTORY/ adds a directory
// that is writable for all users. The same input gives the same archive.
package main

import (
	"archive/tar"
	"bytes"
	"io"
	"log"
	"os"
	"path"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func main() {
	if len(os.Args) < 5 {
		log.Fatal("usage: archive OUTPUT.tar NAME:TAG ENTRYPOINT FILE=PATH… LINK@TARGET… DIRECTORY/…")
	}
	if err := write(os.Args[1], os.Args[2], os.Args[3], os.Args[4:]); err != nil {
		log.Fatal(err)
	}
}

func write(output, tag, entrypoint string, entries []string) error {
	reference, err := name.NewTag(tag)
	if err != nil {
		return err
	}
	files, err := files(entries)
	if err != nil {
		return err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files)), nil })
	if err != nil {
		return err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return err
	}
	file, err := image.ConfigFile()
	if err != nil {
		return err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Config = v1.Config{Entrypoint: []string{entrypoint}, Env: []string{"PATH=/bin"}, WorkingDir: "/"}
	if image, err = mutate.ConfigFile(image, file); err != nil {
		return err
	}
	return tarball.WriteToFile(output, reference, image)
}

// files returns a tar archive of the entries and their parent directories.
func files(entries []string) ([]byte, error) {
	var buffer bytes.Buffer
	writer, made := tar.NewWriter(&buffer), map[string]bool{".": true, "/": true}
	for _, entry := range entries {
		header, content, err := parse(entry)
		if err != nil {
			return nil, err
		}
		if err := parents(writer, made, path.Dir(strings.TrimSuffix(header.Name, "/"))); err != nil {
			return nil, err
		}
		made[strings.TrimSuffix(header.Name, "/")] = header.Typeflag == tar.TypeDir
		if err := writer.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := writer.Write(content); err != nil {
			return nil, err
		}
	}
	err := writer.Close()
	return buffer.Bytes(), err
}

func parse(entry string) (*tar.Header, []byte, error) {
	if directory, found := strings.CutSuffix(entry, "/"); found {
		return &tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(directory, "/") + "/", Mode: 0o1777}, nil, nil
	}
	if link, target, found := strings.Cut(entry, "@"); found {
		return &tar.Header{Typeflag: tar.TypeSymlink, Name: strings.TrimPrefix(link, "/"), Linkname: target, Mode: 0o777}, nil, nil
	}
	file, to, _ := strings.Cut(entry, "=")
	content, err := os.ReadFile(file)
	header := &tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(to, "/"), Mode: 0o755, Size: int64(len(content))}
	return header, content, err
}

func parents(writer *tar.Writer, made map[string]bool, directory string) error {
	if made[directory] {
		return nil
	}
	if err := parents(writer, made, path.Dir(directory)); err != nil {
		return err
	}
	made[directory] = true
	return writer.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: directory + "/", Mode: 0o755})
}
