package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// serve answers GET / with the name of the pod, and GET /ok, for readiness probes, with 200, or with 503 after POST /ok?is=false
// until POST /ok?is=true. SIGTERM starts a graceful shutdown.
func serve(address string) {
	name, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	var unready atomic.Bool
	handler := http.NewServeMux()
	handler.HandleFunc("GET /{$}", func(writer http.ResponseWriter, _ *http.Request) { fmt.Fprintln(writer, name) })
	handler.HandleFunc("GET /ok", func(writer http.ResponseWriter, _ *http.Request) {
		if unready.Load() {
			http.Error(writer, "not ok", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(writer, "ok")
	})
	handler.HandleFunc("POST /ok", func(writer http.ResponseWriter, request *http.Request) {
		unready.Store(request.FormValue("is") == "false")
		log.Printf("ok: %t", !unready.Load())
	})
	server := &http.Server{Addr: address, Handler: handler}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-stop.Done()
		log.Print("shutting down")
		timeout, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(timeout); err != nil {
			log.Print(err)
		}
	}()
	log.Printf("%s listens on %s", name, address)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	<-stopped
	log.Print("stopped")
}
