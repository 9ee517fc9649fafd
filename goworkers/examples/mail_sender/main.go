// Command mail_sender mails each row of queue.mailq (mailq.sql); a mail that comes twice, after a crash, has one Message-ID.
//
//	[mail_sender]
//	job_name = mail_sender
//	src_db = dbname=shop
//	queue_name = mail_events
//	mail_from = shop@example.com
//	on_bad_event = deadletter
package main

import (
	"context"
	"errors"
	"net/smtp"
	"net/textproto"

	"github.com/jackc/pgx/v5"

	"goworkers/batch"
	"goworkers/pgq"
)

type config struct {
	batch.ConsumerConfig
	batch.BadEvents
	SMTP string `ini:"smtp" default:"localhost:25" help:"host:port of the mail server"`
	From string `ini:"mail_from" required:"true" help:"address that the mails are from"`
}

type mail struct {
	MkTemplate      int64
	Username, Email string
	Language        *string `db:"mk_language"`
	Payload         *string
}

func (cfg *config) send(ctx context.Context, tx pgx.Tx, ev *pgq.Event, m *mail) error {
	var text *string
	err := tx.QueryRow(ctx, "select queue.mail_text($1, $2, $3, $4, $5, $6, $7)",
		ev.ID, cfg.From, m.MkTemplate, m.Language, m.Username, m.Email, m.Payload).Scan(&text)
	if err == nil && text == nil {
		return batch.DeadLetter("there is no such template")
	} else if err == nil {
		err = smtp.SendMail(cfg.SMTP, nil, cfg.From, []string{m.Email}, []byte(*text))
	}
	if answer := new(textproto.Error); errors.As(err, &answer) && answer.Code >= 500 {
		return batch.DeadLetter(answer.Msg)
	} else if err != nil {
		return batch.RetryFor(0, err.Error())
	}
	return nil
}

func main() {
	var cfg config
	batch.Main("mail_sender", &cfg, func(job *batch.Job) (batch.Worker, error) {
		return batch.NewConsumer(job, cfg.ConsumerConfig, batch.Handle(job, cfg.BadEvents, cfg.send))
	})
}
