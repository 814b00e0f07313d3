// Colours of the window and of everything drawn in it: dark, light and high contrast.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <QColor>
#include <QObject>
#include <QPalette>
#include <QString>
#include <QStringList>

#include <array>

class QApplication;

namespace rankwise::common {

/// One theme. Series colours are told apart by colour-blind eyes (after Okabe & Ito 2008) and never used alone:
/// every series also carries its name.
struct Theme {
    QString name; ///< "dark", "light" or "contrast".
    QColor window, base, alternate, text, dimText, button, border, accent, accentText;
    QColor grid, good, warning, bad;
    std::array<QColor, 8> series;
    double lineWidth = 1.5;

    [[nodiscard]] QPalette palette() const;
    [[nodiscard]] QString styleSheet() const;
    [[nodiscard]] const QColor& seriesColor(std::size_t index) const { return series[index % series.size()]; }
};

[[nodiscard]] const Theme& darkTheme();
[[nodiscard]] const Theme& lightTheme();
[[nodiscard]] const Theme& contrastTheme();
/// "system", "dark", "light", "contrast".
[[nodiscard]] QStringList themeNames();

/// The theme in force, and the change of it. One for the process; thread: GUI.
class ThemeSwitch : public QObject {
    Q_OBJECT

public:
    static ThemeSwitch& instance();

    [[nodiscard]] const Theme& theme() const { return *m_theme; }
    [[nodiscard]] const QString& choice() const { return m_choice; }
    /// Sets palette, style sheet and font size of the application. "system" follows the desktop's light or dark.
    void apply(const QString& choice, double zoom);

Q_SIGNALS:
    void changed();

private:
    ThemeSwitch();
    bool eventFilter(QObject* object, QEvent* event) override;

    const Theme* m_theme;
    QString m_choice;
    double m_zoom = 1;
    double m_basePointSize = 10;
    QPalette m_systemPalette;
};

/// The theme in force.
[[nodiscard]] inline const Theme& currentTheme()
{
    return ThemeSwitch::instance().theme();
}

} // namespace rankwise::common
