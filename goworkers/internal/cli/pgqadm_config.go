package cli

// pgqadm config and consumer-config: the parameters of queues and of consumers.

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"goworkers/batch"
	"goworkers/pgq"
)

// unset is what is written for a parameter that has no value.
const unset = "none"

// parameters is one kind of parameters: those of queues or those of consumers.
type parameters struct {
	command  string // that shows and sets them
	prefix   string // that a name may have
	names    []string
	nullable []string // those that unset is for
	old      []string // those that PgQ 3.5 lets one set
}

var (
	queueParameters = parameters{
		command: "config", prefix: "queue_",
		names: []string{"ticker_max_count", "ticker_max_lag", "ticker_idle_period", "ticker_min_lag", "ticker_paused", "external_ticker",
			"notify", "rotation_period", "retention", "consumer_expiry", "disable_insert", "per_tx_limit", "extra_maint"},
		nullable: []string{"retention", "consumer_expiry", "per_tx_limit", "extra_maint"},
		old:      []string{"ticker_max_count", "ticker_max_lag", "ticker_idle_period", "ticker_paused", "external_ticker", "rotation_period"},
	}
	consumerParameters = parameters{
		command: "consumer-config", prefix: "sub_",
		names:    []string{"paused", "max_retries", "retry_delay", "retry_max_delay"},
		nullable: []string{"max_retries", "retry_delay"},
	}
)

// read takes KEY=VALUE arguments; a nil value is NULL.
func (p *parameters) read(args []string) (wanted []pgq.Param, err error) {
	for _, arg := range args {
		name, text, ok := strings.Cut(arg, "=")
		if !ok || text == "" {
			return nil, batch.Usagef("%s: %q is not KEY=VALUE", p.command, arg)
		}
		name = strings.TrimPrefix(name, p.prefix)
		if !slices.Contains(p.names, name) {
			return nil, batch.Usagef("%s: unknown parameter %q; it is one of %s", p.command, name, strings.Join(p.names, ", "))
		}
		value := &text
		if text == unset {
			if !slices.Contains(p.nullable, name) {
				return nil, batch.Usagef("%s: %s must have a value; only these may be %s: %s", p.command, name, unset, strings.Join(p.nullable, ", "))
			}
			value = nil
		}
		wanted = append(wanted, pgq.Param{Name: name, Value: value})
	}
	return wanted, nil
}

func adminConfig(ctx context.Context, a *admin) error {
	var names []string
	if a.queue() != "" {
		names = []string{a.queue()}
	}
	look := func() ([]pgq.Params, error) {
		list, err := pgq.QueueParams(ctx, a.db, names...)
		if err == nil && len(names) > 0 && len(list) == 0 {
			err = a.noQueue(names[0])
		}
		return list, err
	}
	if len(a.args) > 1 {
		if err := a.configure(ctx, &queueParameters, a.args[1:], look, func(db pgq.DB, p pgq.Param) error {
			if p.Value == nil {
				return pgq.UnsetQueueConfig(ctx, db, a.queue(), p.Name)
			}
			return pgq.SetQueueConfig(ctx, db, a.queue(), p.Name, *p.Value)
		}); err != nil {
			return err
		}
	}
	list, err := look()
	if err != nil {
		return err
	}
	return a.printParams(list)
}

func adminConsumerConfig(ctx context.Context, a *admin) error {
	look := func() ([]pgq.Params, error) {
		list, err := pgq.ConsumerParams(ctx, a.db, a.queue(), a.consumer())
		switch {
		case err != nil || len(list) > 0:
			return list, err
		case a.old():
			return nil, a.tooOld("this")
		case a.consumer() != "":
			return nil, a.noConsumer(a.queue(), a.consumer())
		case a.queue() != "":
			queues, err := pgq.QueueInfo(ctx, a.db, a.queue())
			if err == nil && len(queues) == 0 {
				err = a.noQueue(a.queue())
			}
			return nil, err
		}
		return nil, nil
	}
	if len(a.args) > 2 {
		if err := a.configure(ctx, &consumerParameters, a.args[2:], look, func(db pgq.DB, p pgq.Param) error {
			return pgq.SetConsumerConfig(ctx, db, a.queue(), a.consumer(), p.Name, p.Value)
		}); err != nil {
			return err
		}
	}
	list, err := look()
	if err != nil {
		return err
	}
	return a.printParams(list)
}

// configure sets all of the KEY=VALUE arguments or none. look tells what there is,
// so that a schema which lacks a parameter is named.
func (a *admin) configure(ctx context.Context, kind *parameters, args []string, look func() ([]pgq.Params, error), set func(pgq.DB, pgq.Param) error) error {
	wanted, err := kind.read(args)
	if err != nil {
		return err
	}
	present, err := look()
	if err != nil {
		return err
	}
	for _, w := range wanted {
		if !slices.ContainsFunc(present[0].Params, func(p pgq.Param) bool { return p.Name == w.Name }) {
			return a.tooOld("parameter " + w.Name)
		}
	}
	tx, err := a.db.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	for _, p := range wanted {
		err := set(tx, p)
		switch {
		case err != nil && a.old() && !slices.Contains(kind.old, p.Name):
			return a.tooOld("to set " + p.Name)
		case err != nil:
			return err
		}
	}
	return tx.Commit(ctx)
}

// printParams writes parameters in the form that config takes back.
func (a *admin) printParams(list []pgq.Params) error {
	if a.json {
		queues := map[string]any{}
		for _, of := range list {
			values := map[string]*string{}
			for _, p := range of.Params {
				values[p.Name] = p.Value
			}
			if of.Consumer == "" {
				queues[of.Queue] = values
				continue
			}
			consumers, ok := queues[of.Queue].(map[string]any)
			if !ok {
				consumers = map[string]any{}
				queues[of.Queue] = consumers
			}
			consumers[of.Consumer] = values
		}
		return a.printJSON(queues)
	}
	for _, of := range list {
		if err := a.say("%s", strings.TrimSpace(of.Queue+" "+of.Consumer)); err != nil {
			return err
		}
		for _, p := range of.Params {
			value := unset
			if p.Value != nil {
				value = *p.Value
			}
			if err := a.say("    %s = %s", p.Name, value); err != nil {
				return err
			}
		}
	}
	return nil
}
